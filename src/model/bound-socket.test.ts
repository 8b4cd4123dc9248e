import { expect, it } from 'vitest';
import { acceptsFamily } from './bound-socket.ts';

const OWN = ['10.252.1.5', 'fd6d::5'];
const accepted = (address: string, v6only?: true) =>
  (['inet', 'inet6'] as const).filter((family) =>
    acceptsFamily({ protocol: 'tcp', port: 80, address, ...(v6only && { v6only }) }, family, OWN),
  );

it.each([
  ['0.0.0.0', undefined, ['inet']],
  ['::', undefined, ['inet', 'inet6']],
  ['::', true, ['inet6']],
  ['::ffff:0.0.0.0', undefined, ['inet']],
  ['10.252.1.5', undefined, ['inet']],
  ['::ffff:10.252.1.5', undefined, ['inet']],
  ['fd6d::5', undefined, ['inet6']],
  ['fd6d::5', true, ['inet6']],
  ['10.252.1.6', undefined, []],
  ['127.0.0.1', undefined, []],
  ['::1', undefined, []],
] as const)('a socket on %s (only IPv6: %s) accepts %j', (address, v6only, families) => {
  expect(accepted(address, v6only)).toEqual(families);
});
