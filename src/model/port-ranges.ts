import type { Protocol } from './address.ts';

/** Ports for people, neighbours as a range: `21/tcp, 30000-30009/tcp, 53/udp`. */
export function formatPorts(ports: readonly { protocol: Protocol; port: number }[]): string {
  const sorted = [...ports].sort((a, b) => compareText(a.protocol, b.protocol) || a.port - b.port);
  const ranges: { protocol: Protocol; first: number; last: number }[] = [];
  for (const { protocol, port } of sorted) {
    const range = ranges.at(-1);
    if (range?.protocol === protocol && port <= range.last + 1) range.last = port;
    else ranges.push({ protocol, first: port, last: port });
  }
  return ranges
    .map(({ protocol, first, last }) => `${first === last ? first : `${first}-${last}`}/${protocol}`)
    .join(', ');
}

const compareText = (a: string, b: string): number => (a < b ? -1 : Number(a > b));
