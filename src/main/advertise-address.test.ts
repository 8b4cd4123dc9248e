import { expect, test } from 'vitest';
import { resolveAdvertiseAddress } from './advertise-address.ts';

/** A routed host: its address is on lo, its links to the routers have others, one has no carrier. */
const ROUTED_HOST = [
  { link: 'lo', address: '127.0.0.1' },
  { link: 'lo', address: '::1' },
  { link: 'lo', address: '198.51.100.7' },
  { link: 'lo', address: '2001:db8::7' },
  { link: 'eth1', address: '203.0.113.9' },
  { link: 'eth0', address: 'fe80::1' },
  { link: 'mesh0', address: '10.252.1.1' },
];

const resolve = (options: { advertise?: string; listen?: string }) =>
  resolveAdvertiseAddress({ advertise: undefined, listen: undefined, join: [], ...options }, async () => ROUTED_HOST);

test.each([
  ['on lo', '198.51.100.7', '198.51.100.7'],
  ['of IPv6 on lo, in another spelling', '2001:DB8:0::7', '2001:db8::7'],
  ['of a link without carrier', '203.0.113.9', '203.0.113.9'],
])('an address %s can be advertised', async (_, advertise, expected) => {
  await expect(resolve({ advertise })).resolves.toBe(expected);
});

test('the address of --listen is the default, on whichever link it is', async () => {
  await expect(resolve({ listen: '198.51.100.7:2377' })).resolves.toBe('198.51.100.7');
});

test.each([
  ['127.0.0.1', 'is a loopback address'],
  ['127.9.9.9', 'is a loopback address'],
  ['::1', 'is a loopback address'],
  ['fe80::1', 'is a link-local address'],
  ['10.252.1.1', 'does not have that address'],
  ['198.51.100.8', 'does not have that address'],
  ['node1', 'is not an IP address'],
])('%s is refused', async (advertise, reason) => {
  await expect(resolve({ advertise })).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringContaining(reason),
  });
});
