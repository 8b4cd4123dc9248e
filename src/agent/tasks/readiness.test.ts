import { expect, it } from 'vitest';
import { whyNotReady } from './readiness.ts';

const tcp80 = [{ protocol: 'tcp' as const, port: 80 }];
const own = ['10.252.1.5'];
const bound = (address: string, port = 80, protocol: 'tcp' | 'udp' = 'tcp') => [{ protocol, port, address }];

it.each([
  ['nothing to wait for', [], [], undefined],
  ['no socket', tcp80, [], 'the process runs but nothing listens on 80/tcp'],
  ['another port', tcp80, bound('0.0.0.0', 8080), 'the process runs but nothing listens on 80/tcp'],
  ['another protocol', tcp80, bound('0.0.0.0', 80, 'udp'), 'the process runs but nothing listens on 80/tcp'],
  ['everywhere', tcp80, bound('0.0.0.0'), undefined],
  ['dual stack', tcp80, bound('::'), undefined],
  ['its own address', tcp80, bound('10.252.1.5'), undefined],
  ['its own address through a dual-stack socket', tcp80, bound('::ffff:10.252.1.5'), undefined],
  ['loopback', tcp80, bound('127.0.0.1'), 'the process runs but 80/tcp is only on 127.0.0.1:80; bind 0.0.0.0'],
  ['loopback v6', tcp80, bound('::1'), 'the process runs but 80/tcp is only on [::1]:80; bind 0.0.0.0'],
] as const)('%s', (_, targets, sockets, reason) => {
  expect(whyNotReady([...targets], own, [...sockets])).toBe(reason);
});

it('names every target that lacks something', () => {
  const targets = [...tcp80, { protocol: 'udp' as const, port: 53 }];
  expect(whyNotReady(targets, own, bound('127.0.0.1'))).toBe(
    'the process runs but 80/tcp is only on 127.0.0.1:80; bind 0.0.0.0, and nothing listens on 53/udp',
  );
});
