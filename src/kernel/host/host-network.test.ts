import { execFileSync } from 'node:child_process';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { ROUTE_PROTOCOL } from '../../model/linux-names.ts';
import { openScratchNetns } from '../driver/scratch-netns.ts';
import { openTransport, type Transport } from '../driver/transport.ts';
import { type HostNetwork, type HostNetworkChange, zeroCounters } from '../kernel.ts';
import { createHostNetwork } from './host-network.ts';

/* On this machine's own kernel, in a netns of its own that plays the host; needs root. */

let scratch: Awaited<ReturnType<typeof openScratchNetns>>;
let transport: Transport;
let network: HostNetwork;

/** Commands of `ip -batch`. */
const ip = (...lines: string[]) =>
  execFileSync('nsenter', [`--net=${scratch.path}`, 'ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });

beforeEach(async () => {
  scratch = await openScratchNetns();
  transport = openTransport(scratch.namespaces, zeroCounters());
  network = createHostNetwork(transport, scratch.namespaces);
  ip(
    'link set lo up',
    'link add eth0 mtu 1400 type veth peer name peer0',
    'link set eth0 up',
    'link set peer0 up',
    'addr add 192.0.2.7/24 dev eth0',
    'addr add 2001:db8:1::7/64 dev eth0 nodad',
    'addr add 198.51.100.7/32 dev lo',
    'addr add 2001:db8::7/128 dev lo nodad',
  );
});
afterEach(() => {
  transport.close();
  scratch.end();
});

test('addresses on lo and on links without carrier are listed, with the MTU of the link', async () => {
  ip('link add eth1 type veth peer name peer1', 'link set eth1 up', 'addr add 203.0.113.7/24 dev eth1');
  const addresses = await network.addresses();
  for (const [link, address, prefix, mtu, ethernet] of [
    ['lo', '198.51.100.7', 32, 65_536, false],
    ['lo', '2001:db8::7', 128, 65_536, false],
    ['eth0', '192.0.2.7', 24, 1_400, true],
    ['eth1', '203.0.113.7', 24, 1_500, true],
  ] as const)
    expect(addresses).toContainEqual({ link, address, prefix, mtu, ethernet });
});

test.each([
  ['a bridge', ['link add b0 type bridge'], true],
  [
    'one that does not resolve addresses, as dummy',
    ['link add b0 type veth peer name b1', 'link set b0 arp off'],
    false,
  ],
  ['a tun', ['tuntap add b0 mode tun'], false],
])('a link exchanges Ethernet frames with other hosts or not: %s', async (_, commands, ethernet) => {
  ip(...commands, 'link set b0 up', 'addr add 203.0.113.7/32 dev b0');
  expect(await network.addresses()).toContainEqual(
    expect.objectContaining({ link: 'b0', address: '203.0.113.7', ethernet }),
  );
});

test('an IPv6 address that another host turns out to have is not one of this host', async () => {
  const holders = async () =>
    (await network.addresses()).flatMap(({ link, address }) => (address === '2001:db8:5::7' ? [link] : []));
  ip('addr add 2001:db8:5::7/64 dev peer0 nodad', 'addr add 2001:db8:5::7/64 dev eth0');
  await vi.waitFor(async () => expect(await holders()).toEqual(['peer0']), { timeout: 10_000 });
});

test('routes of other programs are listed from every table, those of meshd and the kernel’s local ones are not', async () => {
  ip(
    'route add 10.252.0.0/16 via 192.0.2.1',
    'route add 10.253.0.0/16 dev eth0 table 100',
    `route add 10.254.0.0/16 dev eth0 proto ${ROUTE_PROTOCOL}`,
    'route add blackhole 10.255.0.0/16',
    'route add 2001:db8:9::/48 via 2001:db8:1::1',
  );
  const routes = (await network.routes()).filter(({ destination }) => !/^(fe80|ff00)/.test(destination));
  expect(routes.map(({ destination, link, via }) => `${destination} ${link} ${via ?? 'on link'}`).sort()).toEqual(
    [
      '10.252.0.0/16 eth0 192.0.2.1',
      '10.253.0.0/16 eth0 on link',
      '192.0.2.0/24 eth0 on link',
      '2001:db8:1::/64 eth0 on link',
      '2001:db8:9::/48 eth0 2001:db8:1::1',
      ...routes.filter(({ link }) => link === 'lo').map(({ destination }) => `${destination} lo on link`),
    ].sort(),
  );
});

test('paths have the MTU of the route, else of its link, by all rules and tables', async () => {
  ip(
    'route add 203.0.113.0/24 via 192.0.2.1',
    'route add 203.0.113.8/32 via 192.0.2.1 mtu 1300',
    'route add 203.0.113.9/32 via 192.0.2.1 mtu 1250 table 100',
    'rule add from 198.51.100.7 lookup 100',
    'route add 2001:db8:9::/48 via 2001:db8:1::1 mtu 1350',
    'route add blackhole 10.255.0.0/16',
  );
  const destinations = ['203.0.113.7', '203.0.113.8', '203.0.113.9', '10.255.0.1', '10.9.9.9'];
  expect(Object.fromEntries(await network.paths('198.51.100.7', destinations))).toEqual({
    '203.0.113.7': { link: 'eth0', mtu: 1_400, carrier: true },
    '203.0.113.8': { link: 'eth0', mtu: 1_300, carrier: true },
    '203.0.113.9': { link: 'eth0', mtu: 1_250, carrier: true },
  });
  expect((await network.paths('192.0.2.7', ['203.0.113.9'])).get('203.0.113.9')).toEqual({
    link: 'eth0',
    mtu: 1_400,
    carrier: true,
  });
  const inet6 = await network.paths('2001:db8::7', ['2001:db8:9::1', '2001:db8:8::1']);
  expect(Object.fromEntries(inet6)).toEqual({ '2001:db8:9::1': { link: 'eth0', mtu: 1_350, carrier: true } });
  expect((await network.paths('198.51.100.99', ['203.0.113.7'])).size).toBe(0);
});

test('a link without carrier keeps its address and its paths; one that is down has none', async () => {
  const state = async () => ({
    carrier: (await network.paths('192.0.2.7', ['192.0.2.1'])).get('192.0.2.1')?.carrier,
    hasAddress: (await network.addresses()).some(({ address }) => address === '192.0.2.7'),
  });
  expect(await state()).toEqual({ carrier: true, hasAddress: true });
  ip('link set peer0 down');
  expect(await state()).toEqual({ carrier: false, hasAddress: true });
  ip('link set eth0 down');
  expect(await state()).toEqual({ carrier: undefined, hasAddress: false });
});

test('changes of addresses, links and foreign routes are announced', async () => {
  const changes: HostNetworkChange[] = [];
  const stop = network.watch((change) => changes.push(change));
  const announced = async (line: string, expected: HostNetworkChange) => {
    changes.length = 0;
    ip(line);
    await vi.waitFor(() => expect(changes).toContainEqual(expected), { timeout: 5_000 });
  };
  try {
    await announced('addr del 198.51.100.7/32 dev lo', { of: 'addresses' });
    await announced('link set eth0 mtu 1300', { of: 'addresses' });
    await announced('route add 10.252.0.0/16 via 192.0.2.1', { of: 'route', destination: '10.252.0.0/16' });
    await announced('route del 10.252.0.0/16', { of: 'route', destination: '10.252.0.0/16' });
    changes.length = 0;
    ip(`route add 10.253.0.0/16 dev eth0 proto ${ROUTE_PROTOCOL}`, 'addr add 198.51.100.8/32 dev lo');
    await vi.waitFor(() => expect(changes).toContainEqual({ of: 'addresses' }), { timeout: 5_000 });
    expect(changes.filter(({ of }) => of === 'route')).toEqual([]);
  } finally {
    stop();
  }
});
