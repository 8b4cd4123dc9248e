import { expect, test } from 'vitest';
import type { HostAddress, HostNetwork, HostPath } from '../../kernel/kernel.ts';
import { measureUnderlay, measureUnderlayMtu } from './underlay-mtu.ts';

/** A host with these addresses, as `link address mtu`, and paths by destination; `elsewhere` for all others. */
function host(addresses: string[], paths: Record<string, HostPath>, elsewhere?: HostPath): HostNetwork {
  return {
    addresses: async () =>
      addresses.map((line): HostAddress => {
        const [link = '', address = '', mtu] = line.split(' ');
        return { link, address, mtu: Number(mtu), ethernet: link !== 'lo', prefix: 32 };
      }),
    routes: async () => [],
    async paths(_, destinations) {
      const found = new Map<string, HostPath>();
      for (const destination of destinations) {
        const path = paths[destination] ?? elsewhere;
        if (path !== undefined) found.set(destination, path);
      }
      return found;
    },
    watch: () => () => {},
  };
}

const ROUTED = ['lo 127.0.0.1 65536', 'lo 198.51.100.7 65536', 'eth0 192.0.2.7 1500', 'eth1 203.0.113.7 9000'];

test('is the smallest of the routes to the peers, whichever link has the address', async () => {
  const network = host(ROUTED, {
    '198.51.100.8': { link: 'eth1', mtu: 9_000, carrier: true },
    '198.51.100.9': { link: 'eth0', mtu: 1_400, carrier: true },
  });
  const measure = (...peers: string[]) => measureUnderlayMtu(network, '198.51.100.7', peers);
  await expect(measure('198.51.100.8')).resolves.toBe(9_000);
  await expect(measure('198.51.100.8', '198.51.100.9')).resolves.toBe(1_400);
  // One that no route leads to, and one of the other family, say nothing.
  await expect(measure('198.51.100.8', '198.51.100.10', '2001:db8::9')).resolves.toBe(9_000);
});

test('before there is a peer, is that of the link of the address, or of the default route for one on lo', async () => {
  const network = host(ROUTED, {}, { link: 'eth0', mtu: 1_500, carrier: true });
  await expect(measureUnderlayMtu(network, '203.0.113.7', [])).resolves.toBe(9_000);
  await expect(measureUnderlayMtu(network, '198.51.100.7', [])).resolves.toBe(1_500);
  await expect(measureUnderlayMtu(host(ROUTED, {}), '198.51.100.7', [])).resolves.toBe(1_500);
});

test('is unknown while the host does not have the address', async () => {
  await expect(measureUnderlayMtu(host(ROUTED, {}), '198.51.100.99', [])).resolves.toBeUndefined();
});

test.each([
  ['no peer', [], {}, undefined],
  [
    'a path to one of them',
    ['198.51.100.8', '198.51.100.9'],
    { '198.51.100.9': { link: 'eth0', mtu: 1_500, carrier: true } },
    undefined,
  ],
  ['no path', ['198.51.100.8'], {}, 'no route leads to any of them'],
  [
    'a path over a link without carrier',
    ['198.51.100.8'],
    { '198.51.100.8': { link: 'eth1', mtu: 1_500, carrier: false } },
    'eth1 has no carrier',
  ],
  [
    'one of two links without carrier',
    ['198.51.100.8', '198.51.100.9'],
    {
      '198.51.100.8': { link: 'eth0', mtu: 1_500, carrier: false },
      '198.51.100.9': { link: 'eth1', mtu: 1_500, carrier: true },
    },
    undefined,
  ],
] as const)('with %s the host is connected, or says why not', async (_, peers, paths, disconnected) => {
  const measured = await measureUnderlay(host(ROUTED, paths), '192.0.2.7', peers);
  expect(measured?.disconnected).toBe(disconnected);
});
