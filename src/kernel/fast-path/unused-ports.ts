import { HOST_NETNS, markedPort, portMark } from '../../model/linux-names.ts';
import type { Transport } from '../driver/transport.ts';
import { listUsedPorts } from '../host/sockets.ts';
import type { FastPathMaps } from './fast-path-maps.ts';

/**
 * Finds out which newly published ports no program of the host uses, so that host-in need not look for a socket with each
 * packet. host-sent must be attached: it records when a program begins to use one. A port that is in use when it is
 * published stays unknown.
 */
export async function markUnusedPorts(maps: FastPathMaps, transport: Transport): Promise<void> {
  for (const protocol of ['tcp', 'udp'] as const) {
    const ports = unknownPorts(maps, protocol);
    const used = await listUsedPorts(transport, HOST_NETNS, protocol, ports);
    const asked = new Set(ports);
    // Read again: a port may have been removed in the meantime, or published.
    for (const port of unknownPorts(maps, protocol))
      if (asked.has(port) && !used.has(port)) maps.setUnused(portMark(protocol, port));
  }
}

function unknownPorts(maps: FastPathMaps, protocol: 'tcp' | 'udp'): number[] {
  return maps.unknownPorts().flatMap((mark) => {
    const port = markedPort(mark);
    return port?.protocol === protocol ? [port.published] : [];
  });
}
