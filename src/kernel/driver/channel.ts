import { type NetlinkEvent, type NetlinkSocket, openNetlink } from '../../../native/index.ts';
import { MeshError, type Result } from '../../base/errors.ts';
import {
  decodeMessages,
  encodeBatch,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_DUMP,
  NLM_F_REQUEST,
} from '../../netlink/message.ts';
import { createBatchExchange, createDumpExchange, type Exchange, type Outcome } from './exchange.ts';

/** Counts what is sent to the kernel, in one apply or since the start. */
export interface Meter {
  sends: number;
  messages: number;
  bytes: number;
}

/** Milliseconds. Only a kernel in trouble takes this long; RTNL can be held for seconds while many namespaces are torn down. */
const ANSWER_TIMEOUT = 30_000;
const MAX_DUMPS = 10;
const CLOSED = 'the netlink socket was closed before the kernel answered';
const NO_ANSWER = `the kernel did not answer within ${ANSWER_TIMEOUT / 1000} s; it may be tearing down namespaces`;

/** Which namespace a channel is in, and which of all channels it is. */
export interface ChannelIdentity {
  readonly identity: string;
  readonly serial: number;
}

export interface Channel extends ChannelIdentity {
  readonly closed: boolean;
  readonly portId: number;
  transact(requests: readonly NetlinkRequest[], meter: Meter | undefined): Promise<Outcome[]>;
  dump(request: NetlinkRequest): Promise<NetlinkMessage[]>;
  close(): void;
}

/** What happens on the socket, given to the exchange under way; the result of that exchange once it is complete. */
type ExchangeEvent = (exchange: Exchange<unknown>) => Result<unknown> | undefined;

/** Opens one socket. Conversations take turns: the kernel runs one dump per socket at a time (EBUSY otherwise). */
export function openChannel(
  label: ChannelIdentity,
  path: string,
  protocol: number,
  total: Meter,
  mayReceiveDirectly: () => boolean,
): Channel {
  let current: ((event: ExchangeEvent) => void) | undefined;
  let closed = false;
  let sequence = 0;
  let queue: Promise<unknown> = Promise.resolve();

  const socket: NetlinkSocket = openNetlink({ netns: path, protocol }, (event) => {
    deliver(event, (received) => current?.(received));
  });
  socket.unref();

  function close(error: MeshError): void {
    closed = true;
    socket.close();
    current?.((exchange) => exchange.fail(error));
  }

  function send(requests: readonly NetlinkRequest[], ack: 'last' | 'none', meter: Meter | undefined): number {
    const first = sequence + 1;
    sequence = (sequence + requests.length) % 0x7fff_ffff;
    const bytes = encodeBatch(requests, first, { ack });
    // Only what changes the kernel is metered; observations are counted as such.
    for (const count of meter ? [total, meter] : []) {
      count.sends += 1;
      count.messages += requests.length;
      count.bytes += bytes.length;
    }
    socket.send(bytes);
    return first;
  }

  /** Sends a request, and waits until its exchange settles, the socket is closed, or the timeout. */
  function converse<T>(start: () => Exchange<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (closed) throw new MeshError('unavailable', CLOSED);
      // The answers wait in the socket's queue until they are received.
      const exchange = start();
      let timer: NodeJS.Timeout | undefined;
      let settled = false;
      current = (event) => {
        const result = event(exchange) as Result<T> | undefined;
        if (!result) return;
        clearTimeout(timer);
        settled = true;
        current = undefined;
        if (result.ok) resolve(result.value);
        else reject(result.error);
      };
      // The kernel has usually answered by now, so the event loop need not be waited for.
      if (mayReceiveDirectly()) socket.receive();
      // Late answers must not reach a later conversation, so the socket is closed.
      if (!settled)
        timer = setTimeout(() => close(new MeshError('kernel', NO_ANSWER, { retry: true })), ANSWER_TIMEOUT);
    });
  }

  /** Has a conversation when earlier ones are done. */
  function runExchange<T>(start: () => Exchange<T>): Promise<T> {
    const result = queue.then(() => converse(start));
    queue = result.catch(() => undefined);
    return result;
  }

  return {
    ...label,
    get closed() {
      return closed;
    },
    portId: socket.portId,
    transact: (requests, meter) =>
      runExchange(() => createBatchExchange(send(requests, 'last', meter), requests.length)),
    async dump(request) {
      const asked = { ...request, flags: request.flags | NLM_F_REQUEST | NLM_F_DUMP };
      for (let attempt = 1; attempt <= MAX_DUMPS; attempt++) {
        const { messages, consistent } = await runExchange(() => createDumpExchange(send([asked], 'none', undefined)));
        if (consistent) return messages;
      }
      const what = `what the kernel lists changed during each of ${MAX_DUMPS} dumps; trying again later`;
      throw new MeshError('kernel', what, { retry: true });
    },
    close: () => close(new MeshError('unavailable', CLOSED)),
  };
}

/** Gives the events of a socket to an exchange, one for each message. */
function deliver(event: NetlinkEvent, receive: (event: ExchangeEvent) => void): void {
  if (event.type === 'overrun') {
    receive((exchange) => exchange.overrun());
  } else if (event.type === 'error') {
    const error = new MeshError('kernel', `netlink receive failed: ${event.code}`, { retry: true });
    receive((exchange) => exchange.fail(error));
  } else {
    for (const datagram of event.messages) {
      const decoded = decodeMessages(datagram);
      if (!decoded.ok) receive((exchange) => exchange.fail(decoded.error));
      else for (const message of decoded.value) receive((exchange) => exchange.accept(message));
    }
  }
}
