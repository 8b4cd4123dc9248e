import { MeshError, messageOf } from '../../base/errors.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import { encodedLength, type NetlinkMessage, type NetlinkRequest } from '../../netlink/message.ts';
import { type Channel, type Meter, openChannel } from './channel.ts';
import type { Outcome, RequestFailure } from './exchange.ts';
import type { Namespaces } from './namespaces.ts';

// include/uapi/linux/netlink.h
export const NETLINK_ROUTE = 0;
export const NETLINK_SOCK_DIAG = 4;
export const NETLINK_NETFILTER = 12;
export const NETLINK_GENERIC = 16;

/** Netlink conversations with any netns of ours, one socket per netns and protocol, kept open. */
export interface Transport {
  /**
   * Sends all requests, as few sendmsg as fit, and gives one outcome for each. Never rejects: a netns that is not
   * there, a lost answer or silence make failed outcomes.
   */
  transact(netns: string, protocol: number, requests: readonly NetlinkRequest[], meter?: Meter): Promise<Outcome[]>;
  /** All messages of a dump, repeated while the kernel calls it inconsistent. */
  dump(netns: string, protocol: number, request: NetlinkRequest): Promise<NetlinkMessage[]>;
  /**
   * A number that stays the same as long as the name stands for the same namespace. Inode numbers are not enough:
   * the kernel gives that of a dead namespace to the next one, but not while a socket of ours holds it.
   */
  channelSerial(netns: string, protocol: number): number | undefined;
  /** Whether this is the number of our socket: the nlmsg_pid of events about what we asked for. */
  isOwnSocket(netns: string, protocol: number, portId: number): boolean;
  /** Closes the sockets of a netns: they keep a namespace alive that has no name any more. */
  closeNetns(netns: string): void;
  /** Closes the sockets of every netns that another program deleted or replaced. */
  closeStale(): void;
  close(): void;
}

/**
 * Of one sendmsg: below the addon's send buffer (1 MiB) by far, and its answers, at most some 8 KiB of kernel memory
 * each (links), below the receive buffer (8 MiB): an overrun would hide failures.
 */
const MAX_SEND = 64 * 1024;
export const MAX_MESSAGES = 500;
/** After so many conversations the event loop gets its turn. */
const MAX_DIRECT_RECEIVES = 16;

/** Opens sockets as they are needed, one for each netns and protocol; what it sends is added to `total`. */
export function openTransport(namespaces: Namespaces, total: Meter): Transport {
  const channels = new Map<string, Channel>();
  let serial = 0;
  let exchanges = 0;
  const mayReceiveDirectly = () => {
    exchanges = (exchanges + 1) % MAX_DIRECT_RECEIVES;
    return exchanges > 0;
  };

  function channel(netns: string, protocol: number): Channel | undefined {
    const key = `${netns} ${protocol}`;
    // The host's netns is the process's own; it cannot be replaced under us.
    const identity = netns === HOST_NETNS ? HOST_NETNS : namespaces.identity(netns);
    const known = channels.get(key);
    if (known && !known.closed && known.identity === identity) return known;
    known?.close();
    channels.delete(key);
    if (identity === undefined) return undefined;
    serial += 1;
    const opened = openChannel({ identity, serial }, namespaces.path(netns), protocol, total, mayReceiveDirectly);
    channels.set(key, opened);
    return opened;
  }

  return {
    async transact(netns, protocol, requests, meter) {
      const outcomes: Outcome[] = [];
      for (const chunk of splitIntoChunks(requests))
        outcomes.push(...(await transactChunk(netns, protocol, chunk, meter)));
      return outcomes;
    },
    async dump(netns, protocol, request) {
      const opened = channel(netns, protocol);
      if (!opened) throw new MeshError('not-found', `network namespace ${netns} does not exist`);
      return opened.dump(request);
    },
    channelSerial: (netns, protocol) => channel(netns, protocol)?.serial,
    isOwnSocket: (netns, protocol, portId) => channels.get(`${netns} ${protocol}`)?.portId === portId,
    closeNetns(netns) {
      for (const [key, opened] of channels) {
        if (!key.startsWith(`${netns} `)) continue;
        opened.close();
        channels.delete(key);
      }
    },
    closeStale() {
      const present = new Map<string, string | undefined>();
      for (const [key, opened] of channels) {
        const netns = key.slice(0, key.indexOf(' '));
        if (netns === HOST_NETNS) continue;
        if (!present.has(netns)) present.set(netns, namespaces.identity(netns));
        if (present.get(netns) === opened.identity) continue;
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
      return chunk.map(() => toRequestFailure(thrown));
    }
  }
}

/** A system error (of the addon or node:fs) as an outcome; after any other error the outcome is unknown. */
export function toRequestFailure(thrown: unknown): RequestFailure {
  const { code, syscall } = thrown as NodeJS.ErrnoException;
  const text = messageOf(thrown);
  return code !== undefined && syscall !== undefined
    ? { ok: false, code, text }
    : { ok: false, code: 'EIO', text, outcomeUnknown: true };
}

/** Requests by sendmsg, in their order: neither too many bytes nor too many answers at once. */
export function splitIntoChunks(requests: readonly NetlinkRequest[]): NetlinkRequest[][] {
  const chunks: NetlinkRequest[][] = [];
  let bytesLeft = 0;
  let messagesLeft = 0;
  for (const request of requests) {
    const length = encodedLength(request);
    if (messagesLeft === 0 || length > bytesLeft) {
      chunks.push([]);
      bytesLeft = MAX_SEND;
      messagesLeft = MAX_MESSAGES;
    }
    chunks.at(-1)?.push(request);
    bytesLeft -= length;
    messagesLeft -= 1;
  }
  return chunks;
}
