import { HOST_NETNS, markedPort, portMark } from '../../model/linux-names.ts';
import { decodeSocket, dumpSenders } from '../../netlink/sock-diag.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { NETLINK_SOCK_DIAG, type Transport } from '../driver/transport.ts';
import type { FastPathMaps } from './fast-path-maps.ts';

/**
 * Finds out which newly published ports, given as fwmarks, no program of the host uses, so that host-in need not look for a
 * socket with each packet. host-sent must be attached: it records when a program begins to use one. A port that is in use
 * when it is published stays unknown.
 */
export async function markUnusedPorts(
  maps: FastPathMaps,
  transport: Transport,
  marks: readonly number[],
): Promise<void> {
  for (const protocol of ['tcp', 'udp'] as const) {
    const ports = marks.flatMap((mark) => {
      const port = markedPort(mark);
      return port?.protocol === protocol ? [port.published] : [];
    });
    const used = await listUsedPorts(transport, protocol, ports);
    for (const port of ports) {
      const mark = portMark(protocol, port);
      // It may have been removed in the meantime.
      if (!used.has(port) && maps.isUnknown(mark)) maps.setUnused(mark);
    }
  }
}

/** Those of the ports that a socket of the host other than a TCP listener has: one that may have peers. */
async function listUsedPorts(
  transport: Transport,
  protocol: 'tcp' | 'udp',
  ports: readonly number[],
): Promise<Set<number>> {
  const used = new Set<number>();
  if (ports.length === 0) return used;
  const range = { first: Math.min(...ports), last: Math.max(...ports) };
  for (const family of ['inet', 'inet6'] as const) {
    const replies = await transport.dump(HOST_NETNS, NETLINK_SOCK_DIAG, dumpSenders(protocol, family, range));
    for (const { port } of decodeAll(replies, decodeSocket)) used.add(port);
  }
  return used;
}
