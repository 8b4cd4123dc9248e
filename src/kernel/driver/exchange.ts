import { err, MeshError, ok, type Result } from '../../base/errors.ts';
import { decodeAck, type NetlinkMessage, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR } from '../../netlink/message.ts';

/**
 * One request to the kernel and its answers, without the socket. A call returns the result once it is complete; after
 * that the exchange is not used again.
 */
export interface Exchange<T> {
  accept(message: NetlinkMessage): Result<T> | undefined;
  /** Messages were dropped (ENOBUFS). */
  overrun(): Result<T> | undefined;
  /** No more answers will arrive. */
  fail(error: MeshError): Result<T>;
}

/** The result of one request of a batch. */
export type Outcome = { ok: true; replies: NetlinkMessage[] } | RequestFailure;

export interface RequestFailure {
  ok: false;
  /** Name of the error number: `EEXIST`, `IPSET_ERR_BUSY`. */
  code: string;
  /** The kernel's explanation, or what happened to the request. */
  text?: string;
  /** It may have been executed or not: observe again. */
  outcomeUnknown?: true;
}

/** Shared by all requests without an answer of their own, of which there are tens of thousands. */
const SUCCESS: Outcome = { ok: true, replies: [] };

/** A batch of `count` requests, the first with sequence number `first`, of which the last asked for an answer. */
export function createBatchExchange(first: number, count: number): Exchange<Outcome[]> {
  const outcomes = new Array<Outcome>(count).fill(SUCCESS);
  // A reported failure stays one; the outcome of the others is unknown.
  const failUnanswered = (text: string) =>
    ok(
      outcomes.map(
        (outcome): Outcome => (outcome.ok ? { ok: false, code: 'ENOBUFS', text, outcomeUnknown: true } : outcome),
      ),
    );
  return {
    accept(message) {
      const index = message.sequence - first;
      const outcome = outcomes[index];
      if (!outcome) return undefined;
      if (message.type !== NLMSG_ERROR) {
        if (!outcome.ok || message.type === NLMSG_DONE) return undefined;
        if (outcome === SUCCESS) outcomes[index] = { ok: true, replies: [message] };
        else outcome.replies.push(message);
        return undefined;
      }
      const ack = decodeAck(message);
      if (!ack.ok) return failUnanswered(ack.error.message);
      if (ack.value.errno !== 0) {
        const { code, text } = ack.value;
        outcomes[index] = { ok: false, code, ...(text === undefined ? {} : { text }) };
      }
      // The kernel executes a batch in order (netlink_rcv_skb), so the answer to the last request is the last answer.
      return index === count - 1 ? ok(outcomes) : undefined;
    },
    overrun: () => failUnanswered('answers were dropped, the receive buffer was full'),
    fail: (error) => failUnanswered(error.message),
  };
}

export interface Dump {
  messages: NetlinkMessage[];
  /** False when what was listed changed meanwhile or messages were dropped: repeat the dump. */
  consistent: boolean;
}

/** Collects the answers to one dump, up to NLMSG_DONE or an error. */
export function createDumpExchange(sequence: number): Exchange<Dump> {
  const messages: NetlinkMessage[] = [];
  let consistent = true;
  return {
    accept(message) {
      if (message.sequence !== sequence) return undefined;
      if (message.type !== NLMSG_ERROR && (message.flags & NLM_F_DUMP_INTR) !== 0) consistent = false;
      if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE) {
        messages.push(message);
        return undefined;
      }
      const ack = decodeAck(message);
      if (!ack.ok) return ack;
      const { errno, code, text } = ack.value;
      if (errno === 0) return ok({ messages, consistent });
      const words = text === undefined ? '' : ` (${text})`;
      return err(new MeshError('kernel', `the kernel refused to list: ${code}${words}`, { cause: { code } }));
    },
    // The kernel fills a dump only as it is read, so its end still arrives.
    overrun() {
      consistent = false;
      return undefined;
    },
    fail: err,
  };
}

/** Name of the error number with which the kernel refused a dump; undefined for other errors. */
export function kernelErrorCode(thrown: unknown): string | undefined {
  return thrown instanceof MeshError ? (thrown.cause as { code?: string } | undefined)?.code : undefined;
}
