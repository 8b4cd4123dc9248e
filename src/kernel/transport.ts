import { type NetlinkSocket, openNetlink } from '../../native/index.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import { HOST_NETNS } from '../model/names.ts';
import {
  decodeAck,
  decodeMessages,
  encodeBatch,
  encodedLength,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
} from '../netlink/message.ts';
import type { Namespaces } from './namespaces.ts';

// include/uapi/linux/netlink.h
export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_NETFILTER = 12;
export const NETLINK_GENERIC = 16;

/** What came of one request of a batch. */
export type Outcome = { ok: true; replies: NetlinkMessage[] } | Refusal;

export interface Refusal {
  ok: false;
  /** Name of the error number: `EEXIST`, `IPSET_ERR_BUSY`. */
  code: string;
  /** What the kernel says in words, or what happened to the request. */
  text?: string;
  /** Nobody knows whether it was done: look again. */
  lost?: true;
}

/** Counts what goes to the kernel, for one apply or for good. */
export interface Meter {
  sends: number;
  messages: number;
  bytes: number;
}

/** Netlink conversations with any netns of ours, one socket per netns and protocol, kept open. */
export interface Transport {
  /**
   * Sends all requests, as few sendmsg as fit, and gives one outcome for each. Never rejects: a netns that is not
   * there, a lost answer or silence make failed outcomes.
   */
  transact(netns: string, protocol: number, requests: readonly NetlinkRequest[], meter?: Meter): Promise<Outcome[]>;
  /** All messages of a dump, repeated while the kernel calls it inconsistent. */
  dump(netns: string, protocol: number, request: NetlinkRequest): Promise<NetlinkMessage[]>;
  /** Lets go of a netns; a socket keeps a namespace alive that nobody can name any more. */
  forget(netns: string): void;
  /** Lets go of every netns that was deleted or replaced behind our back. */
  sweep(): void;
  close(): void;
}

/** One sendmsg: below the addon's send buffer by far, and its answers, were they all failures, below the receive buffer. */
const MAX_SEND = 64 * 1024;
/** Only a kernel in trouble takes this long; RTNL can be held for seconds while many namespaces are torn down. */
const TIME_LIMIT = 30_000;
const MAX_DUMPS = 10;

export function openTransport(namespaces: Namespaces, total: Meter): Transport {
  const channels = new Map<string, Channel>();

  function channel(netns: string, protocol: number): Channel | undefined {
    const key = `${netns} ${protocol}`;
    // The host's netns is the process's own; it cannot be replaced under us.
    const identity = netns === HOST_NETNS ? HOST_NETNS : namespaces.identity(netns);
    const known = channels.get(key);
    if (known && !known.closed && known.identity === identity) return known;
    known?.close();
    channels.delete(key);
    if (identity === undefined) return undefined;
    const opened = openChannel(identity, namespaces.path(netns), protocol, total);
    channels.set(key, opened);
    return opened;
  }

  return {
    async transact(netns, protocol, requests, meter) {
      const outcomes: Outcome[] = [];
      for (const chunk of chunksOf(requests)) outcomes.push(...(await transactChunk(netns, protocol, chunk, meter)));
      return outcomes;
    },
    async dump(netns, protocol, request) {
      const opened = channel(netns, protocol);
      if (!opened) throw new MeshError('not-found', `network namespace ${netns} does not exist`);
      return opened.dump(request);
    },
    forget(netns) {
      for (const [key, opened] of channels) {
        if (!key.startsWith(`${netns} `)) continue;
        opened.close();
        channels.delete(key);
      }
    },
    sweep() {
      for (const [key, opened] of channels) {
        const netns = key.slice(0, key.indexOf(' '));
        if (netns === HOST_NETNS || namespaces.identity(netns) === opened.identity) continue;
        opened.close();
        channels.delete(key);
      }
    },
    close() {
      for (const opened of channels.values()) opened.close();
      channels.clear();
    },
  };

  async function transactChunk(
    netns: string,
    protocol: number,
    chunk: readonly NetlinkRequest[],
    meter: Meter | undefined,
  ): Promise<Outcome[]> {
    try {
      const opened = channel(netns, protocol);
      if (opened) return await opened.transact(chunk, meter);
      return chunk.map(() => ({ ok: false, code: 'ENOENT', text: `network namespace ${netns} does not exist` }));
    } catch (thrown) {
      return chunk.map(() => refusalOf(thrown));
    }
  }
}

/** A system error (of the addon or node:fs) as an outcome; after any other nobody knows what was done. */
export function refusalOf(thrown: unknown): Refusal {
  const { code, syscall } = thrown as NodeJS.ErrnoException;
  const text = messageOf(thrown);
  return code !== undefined && syscall !== undefined
    ? { ok: false, code, text }
    : { ok: false, code: 'EIO', text, lost: true };
}

export function chunksOf(requests: readonly NetlinkRequest[]): NetlinkRequest[][] {
  const chunks: NetlinkRequest[][] = [];
  let room = 0;
  for (const request of requests) {
    const length = encodedLength(request);
    if (chunks.length === 0 || length > room) {
      chunks.push([]);
      room = MAX_SEND;
    }
    chunks.at(-1)?.push(request);
    room -= length;
  }
  return chunks;
}

interface Channel {
  readonly identity: string;
  readonly closed: boolean;
  transact(requests: readonly NetlinkRequest[], meter: Meter | undefined): Promise<Outcome[]>;
  dump(request: NetlinkRequest): Promise<NetlinkMessage[]>;
  close(): void;
}

/** What waits for answers; there is one at a time. */
interface Exchange {
  accept(message: NetlinkMessage): void;
  overrun(): void;
  fail(error: MeshError): void;
}

/** One socket. Conversations take turns: the kernel runs one dump per socket at a time (EBUSY otherwise). */
function openChannel(identity: string, path: string, protocol: number, total: Meter): Channel {
  let exchange: Exchange | undefined;
  let closed = false;
  let sequence = 0;
  let turn: Promise<unknown> = Promise.resolve();

  const socket: NetlinkSocket = openNetlink({ netns: path, protocol }, (event) => {
    if (event.type === 'overrun') exchange?.overrun();
    if (event.type === 'error')
      exchange?.fail(new MeshError('kernel', `netlink receive failed: ${event.code}`, { retry: true }));
    if (event.type === 'data') {
      for (const datagram of event.messages) {
        const decoded = decodeMessages(datagram);
        if (decoded.ok) for (const message of decoded.value) exchange?.accept(message);
        else exchange?.fail(decoded.error);
      }
    }
  });
  socket.unref();

  function close(error?: MeshError): void {
    closed = true;
    socket.close();
    exchange?.fail(error ?? new MeshError('unavailable', 'the netlink socket was closed before the kernel answered'));
  }

  function send(requests: readonly NetlinkRequest[], ack: 'last' | 'none', meter: Meter | undefined): number {
    const first = sequence + 1;
    sequence = (sequence + requests.length) % 0x7fff_ffff;
    const bytes = encodeBatch(requests, first, { ack });
    for (const count of meter ? [total, meter] : [total]) {
      count.sends += 1;
      count.messages += requests.length;
      count.bytes += bytes.length;
    }
    socket.send(bytes);
    return first;
  }

  /** Runs `start` when it is its turn, until it settles, the socket is closed, or the time is up. */
  function converse<T>(start: (settle: { done(value: T): void; fail(error: unknown): void }) => Exchange): Promise<T> {
    const mine = turn.then(
      () =>
        new Promise<T>((resolve, reject) => {
          if (closed) return reject(new MeshError('unavailable', 'the netlink socket was closed'));
          const timer = setTimeout(() => {
            // Late answers must not meet a later conversation.
            close(
              new MeshError(
                'kernel',
                `the kernel did not answer within ${TIME_LIMIT / 1000} s; it may be tearing down namespaces`,
                { retry: true },
              ),
            );
          }, TIME_LIMIT);
          const end = () => {
            clearTimeout(timer);
            exchange = undefined;
          };
          const settle = {
            done(value: T) {
              end();
              resolve(value);
            },
            fail(error: unknown) {
              end();
              reject(error);
            },
          };
          try {
            exchange = start(settle);
          } catch (thrown) {
            settle.fail(thrown);
          }
        }),
    );
    turn = mine.catch(() => undefined);
    return mine;
  }

  return {
    identity,
    get closed() {
      return closed;
    },
    transact(requests, meter) {
      return converse((settle) => {
        const outcomes: Outcome[] = requests.map(() => ({ ok: true, replies: [] }));
        // The answers wait in the socket's queue until this returns to the event loop.
        const first = send(requests, 'last', meter);
        const lost = (text: string) =>
          settle.done(
            outcomes.map((outcome) => (outcome.ok ? { ok: false, code: 'ENOBUFS', text, lost: true } : outcome)),
          );
        return {
          accept(message) {
            const index = message.sequence - first;
            const outcome = outcomes[index];
            if (!outcome) return;
            if (message.type !== NLMSG_ERROR) {
              if (outcome.ok && message.type !== NLMSG_DONE) outcome.replies.push(message);
              return;
            }
            const ack = decodeAck(message);
            if (!ack.ok) return settle.fail(ack.error);
            if (ack.value.errno !== 0) {
              const { code, text } = ack.value;
              outcomes[index] = { ok: false, code, ...(text === undefined ? {} : { text }) };
            }
            // The kernel works through a batch in order, so the answer to the last one is the last answer.
            if (index === requests.length - 1) settle.done(outcomes);
          },
          overrun: () => lost('answers were dropped, the receive buffer was full'),
          fail: (error) => lost(error.message),
        };
      });
    },
    async dump(request) {
      for (let attempt = 1; attempt <= MAX_DUMPS; attempt++) {
        const { messages, consistent } = await dumpOnce(request);
        if (consistent) return messages;
      }
      throw new MeshError(
        'kernel',
        `what the kernel lists changed during each of ${MAX_DUMPS} dumps; trying again later`,
        {
          retry: true,
        },
      );
    },
    close: () => close(),
  };

  function dumpOnce(request: NetlinkRequest): Promise<{ messages: NetlinkMessage[]; consistent: boolean }> {
    return converse((settle) => {
      const messages: NetlinkMessage[] = [];
      let consistent = true;
      const asked = { ...request, flags: request.flags | NLM_F_REQUEST | NLM_F_DUMP };
      const first = send([asked], 'none', undefined);
      return {
        accept(message) {
          if (message.sequence !== first) return;
          if ((message.flags & NLM_F_DUMP_INTR) !== 0 && message.type !== NLMSG_ERROR) consistent = false;
          if (message.type !== NLMSG_ERROR && message.type !== NLMSG_DONE) return void messages.push(message);
          const ack = decodeAck(message);
          if (!ack.ok) return settle.fail(ack.error);
          if (ack.value.errno === 0) return settle.done({ messages, consistent });
          const { code, text } = ack.value;
          settle.fail(dumpRefused(code, text));
        },
        // The dump itself is pulled and never dropped, so its end still comes.
        overrun: () => {
          consistent = false;
        },
        fail: settle.fail,
      };
    });
  }
}

function dumpRefused(code: string, text: string | undefined): MeshError {
  const words = text === undefined ? '' : ` (${text})`;
  return new MeshError('kernel', `the kernel refused to list: ${code}${words}`, { cause: { code } });
}

/** Name of the error number with which the kernel refused a dump; undefined for other errors. */
export function refusedWith(thrown: unknown): string | undefined {
  return thrown instanceof MeshError ? (thrown.cause as { code?: string } | undefined)?.code : undefined;
}
