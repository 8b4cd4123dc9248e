import { expect, it } from 'vitest';
import { canonicalAddress, isLoopback, isWildcard } from './canonical-address.ts';

it.each([
  ['192.0.2.1', '192.0.2.1'],
  ['::ffff:192.0.2.1', '192.0.2.1'],
  ['2001:DB8:0:0::1', '2001:db8::1'],
  ['::', '::'],
  ['node1', undefined],
  ['', undefined],
])('%j is canonically %j', (text, expected) => expect(canonicalAddress(text)).toBe(expected));

it.each([
  ['127.0.0.9', true],
  ['::1', true],
  ['::ffff:127.0.0.1', true],
  ['192.0.2.1', false],
  ['localhost', false],
])('%s on loopback: %s', (address, expected) => expect(isLoopback(address)).toBe(expected));

it('knows the wildcard of both families', () => {
  expect(['0.0.0.0', '::', '127.0.0.1'].map(isWildcard)).toEqual([true, true, false]);
});
