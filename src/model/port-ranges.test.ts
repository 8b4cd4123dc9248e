import { expect, it } from 'vitest';
import { formatPorts } from './port-ranges.ts';

const tcp = (...ports: number[]) => ports.map((port) => ({ protocol: 'tcp' as const, port }));

it.each([
  [[], ''],
  [tcp(80), '80/tcp'],
  [tcp(81, 80), '80-81/tcp'],
  [tcp(21, 30_002, 30_000, 30_001, 30_004), '21/tcp, 30000-30002/tcp, 30004/tcp'],
  [
    [...tcp(53, 54), { protocol: 'udp' as const, port: 55 }, { protocol: 'udp' as const, port: 53 }],
    '53-54/tcp, 53/udp, 55/udp',
  ],
  [tcp(80, 80, 81), '80-81/tcp'],
])('%j is %s', (ports, text) => {
  expect(formatPorts(ports)).toBe(text);
});
