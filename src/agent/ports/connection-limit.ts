import type { Server } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Closes new connections of a source that has `limit` open ones, so that no source uses up those of the others. */
export function limitConnectionsPerSource(server: Server, limit: number): void {
  const counts = new Map<string, number>();
  server.on('connection', (socket) => {
    const source = sourceOf(socket.remoteAddress);
    const count = counts.get(source) ?? 0;
    if (count >= limit) {
      socket.destroy();
      return;
    }
    counts.set(source, count + 1);
    socket.once('close', () => {
      const left = counts.get(source)! - 1;
      if (left > 0) counts.set(source, left);
      else counts.delete(source);
    });
  });
}

/**
 * Who is counted as one: an IPv4 address, or an IPv6 network of 64 bits, because a host chooses freely among its addresses.
 * A peer that has disconnected already has no address: the empty text.
 */
export function sourceOf(address: string | undefined): string {
  if (address === undefined || !ipaddr.isValid(address)) return '';
  const parsed = ipaddr.process(address); // ::ffff:192.0.2.1 of a dual-stack socket is 192.0.2.1
  if (parsed instanceof ipaddr.IPv4) return parsed.toString();
  return `${new ipaddr.IPv6([...parsed.parts.slice(0, 4), 0, 0, 0, 0]).toRFC5952String()}/64`;
}
