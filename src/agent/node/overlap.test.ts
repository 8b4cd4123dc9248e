import { expect, test } from 'vitest';
import type { HostRoute } from '../../kernel/kernel.ts';
import { overlapCondition, overlaps } from './overlap.ts';

const OVERLAY = ['10.252.0.0/14', 'fd6d:6573:6800::/48'];
const route = (destination: string, via?: string, link = 'eth1'): HostRoute => ({ destination, link, via });
const address = (text: string, link: string) => ({ address: text, link, mtu: 1_500, ethernet: true, prefix: 24 });
const networks = (routes: HostRoute[], addresses: ReturnType<typeof address>[] = []) =>
  overlapCondition(routes, addresses, OVERLAY)?.params['networks'];

test.each<[string, HostRoute, string | undefined]>([
  ['a LAN inside', route('10.252.0.0/16'), '10.252.0.0/16 on eth1'],
  ['a network inside, behind a gateway', route('10.254.8.0/21', '192.0.2.1'), '10.254.8.0/21 on eth1'],
  ['the same network', route('10.252.0.0/14', '192.0.2.1'), '10.252.0.0/14 on eth1'],
  ['a LAN around it', route('10.0.0.0/8'), '10.0.0.0/8 on eth1'],
  ['one address', route('10.255.255.255/32'), '10.255.255.255/32 on eth1'],
  ['IPv6', route('fd6d:6573:6800:7::/64'), 'fd6d:6573:6800:7::/64 on eth1'],
  ['a private network behind a gateway', route('10.0.0.0/8', '192.0.2.1'), undefined],
  ['the default route', route('0.0.0.0/0', '192.0.2.1'), undefined],
  ['a default route without a gateway', route('0.0.0.0/0'), undefined],
  ['half of a default route', route('0.0.0.0/1', undefined, 'tun0'), undefined],
  ['the network below', route('10.251.0.0/16'), undefined],
  ['the network above', route('11.0.0.0/24'), undefined],
])('%s', (_, tested, expected) => {
  expect(networks([tested])).toBe(expected);
});

test('an address of the host inside counts, unless it is of meshd or in a network that is named', () => {
  expect(networks([], [address('10.252.7.7', 'lo')])).toBe('10.252.7.7/32 on lo');
  expect(networks([], [address('10.252.1.1', 'mesh0')])).toBeUndefined();
  expect(networks([route('10.252.7.0/24')], [address('10.252.7.7', 'eth1')])).toBe('10.252.7.0/24 on eth1');
});

test('many networks are counted', () => {
  const routes = Array.from({ length: 8 }, (_, index) => route(`10.252.${index}.0/24`, '192.0.2.1'));
  expect(networks(routes)).toMatch(/^10\.252\.0\.0\/24 on eth1, .* and 3 more$/);
});

test('without an overlay nothing overlaps', () => {
  expect(overlapCondition([route('10.252.0.0/16')], [], [])).toBeUndefined();
});

test('two networks overlap if one contains the other', () => {
  expect(overlaps('10.0.0.0/8', '10.252.0.0/14')).toBe(true);
  expect(overlaps('10.252.0.0/14', '10.0.0.0/8')).toBe(true);
  expect(overlaps('10.252.0.0/15', '10.254.0.0/15')).toBe(false);
  expect(overlaps('::/0', '10.252.0.0/14')).toBe(false);
});
