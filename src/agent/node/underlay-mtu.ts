import type { HostNetwork } from '../../kernel/kernel.ts';
import { type Family, familyOf, type IpAddress } from '../../model/address.ts';

export const ETHERNET_MTU = 1_500;
/** An address that only the default route leads to (RFC 5737, RFC 3849). */
const ELSEWHERE: Readonly<Record<Family, IpAddress>> = { inet: '192.0.2.1', inet6: '2001:db8::1' };
const LOOPBACK = 'lo';

/**
 * Bytes of the largest packet that the host sends to every peer in one piece: the smallest MTU of its routes to them.
 * Before there is a peer, the MTU of the link of the address, or of the default route: an address on `lo` is reached
 * through other links. Undefined while the host does not have the address.
 */
export async function measureUnderlayMtu(
  network: HostNetwork,
  underlay: IpAddress,
  peers: readonly IpAddress[],
): Promise<number | undefined> {
  const link = await underlayLink(network, underlay);
  if (link === undefined) return undefined;
  const family = familyOf(underlay);
  const paths = await network.paths(
    underlay,
    peers.filter((peer) => familyOf(peer) === family),
  );
  if (paths.size > 0) return smallestMtu(paths.values());
  if (link.name !== LOOPBACK) return link.mtu;
  return smallestMtu((await network.paths(underlay, [ELSEWHERE[family]])).values());
}

/** The link that has the address, also one without carrier. */
export async function underlayLink(
  network: HostNetwork,
  underlay: IpAddress,
): Promise<{ name: string; mtu: number; ethernet: boolean } | undefined> {
  const owner = (await network.addresses()).find(({ address }) => address === underlay);
  return owner && { name: owner.link, mtu: owner.mtu, ethernet: owner.ethernet };
}

function smallestMtu(paths: Iterable<{ mtu: number }>): number {
  let smallest = Number.POSITIVE_INFINITY;
  for (const { mtu } of paths) smallest = Math.min(smallest, mtu);
  return Number.isFinite(smallest) ? smallest : ETHERNET_MTU;
}
