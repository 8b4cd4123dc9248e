import { expect, it } from 'vitest';
import { isStrict, policyRule } from './host-routing.ts';
import { localAddresses } from './local-addresses.ts';

const entry = {
  family: 'inet',
  priority: 5,
  fwmark: 0,
  fwmask: 0,
  action: { lookup: 100 },
  protocol: 3,
  otherSelectors: true,
} as const;
const rule = { family: 'inet', priority: 5, fwmark: 0, fwmask: 0, action: { lookup: 100 } };

it('marks rules by what only packets of the host have, and by what meshd does not compare', () => {
  expect(policyRule({ ...entry, source: '192.0.2.1/32' })).toEqual({ ...rule, source: '192.0.2.1/32' });
  expect(policyRule({ ...entry, source: '192.0.2.77/24' })).toEqual({ ...rule, source: '192.0.2.0/24' });
  expect(policyRule({ ...entry, source: '2001:db8::7/32' })).toEqual({ ...rule, source: '2001:db8::/32' });
  expect(policyRule({ ...entry, inputLink: 'lo' })).toEqual({ ...rule, fromHost: true });
  expect(policyRule({ ...entry, inputLink: 'eth1' })).toEqual({ ...rule, forwarded: true });
  expect(policyRule({ ...entry, furtherSelectors: true })).toEqual({ ...rule, others: true });
  expect(policyRule({ ...entry, action: 'other' })).toEqual({ ...rule, action: 'nop', others: true });
});

it('calls a reverse path check strict where it is for some link', () => {
  const filters = (all: number, eth0: number, eth1 = 0) =>
    isStrict(new Map(Object.entries({ all, default: 1, lo: 1, eth0, eth1 })));
  expect(filters(0, 0)).toBe(false);
  expect(filters(0, 0, 1)).toBe(true);
  expect(filters(1, 0)).toBe(true);
  expect(filters(2, 1)).toBe(false);
  expect(filters(1, 2)).toBe(true);
  expect(filters(1, 2, 2)).toBe(false);
});

it('knows local addresses, networks that are local as a whole, and networks that touch them', () => {
  const local = localAddresses(['192.0.2.1/32', '127.0.0.0/8', '198.51.100.0/28', 'fd00::1/128']);
  for (const address of ['192.0.2.1', '127.9.9.9', '198.51.100.15', 'fd00::1']) {
    expect(local.includes(address)).toBe(true);
  }
  for (const address of ['192.0.2.2', '198.51.100.16', 'fd00::2']) expect(local.includes(address)).toBe(false);
  for (const network of [
    '192.0.2.0/24',
    '192.0.2.1/32',
    '198.51.100.3/32',
    '198.51.0.0/16',
    'fd00::/64',
    '0.0.0.0/0',
  ]) {
    expect(local.touches(network)).toBe(true);
  }
  for (const network of ['192.0.2.2/32', '203.0.113.0/24', 'fd01::/64']) expect(local.touches(network)).toBe(false);
});
