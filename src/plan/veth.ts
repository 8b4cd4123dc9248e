import type { VethPair } from '../model/kinds/veth.ts';

/** Where one end of a veth pair is. */
type End = readonly [netns: string, name: string];

/** A pair, both ends up; `mtu` in bytes. */
export function veth([netns, name]: End, peer: End, mtu: number): VethPair {
  return { kind: 'veth', netns, name, mtu, up: true, peer: { netns: peer[0], name: peer[1], mtu, up: true } };
}
