import type { HostNetwork, HostPath } from '../../kernel/kernel.ts';
import { type Family, familyOf, type IpAddress } from '../../model/address.ts';

export const ETHERNET_MTU = 1_500;
/** An address that only the default route leads to (RFC 5737, RFC 3849). */
const ELSEWHERE: Readonly<Record<Family, IpAddress>> = { inet: '192.0.2.1', inet6: '2001:db8::1' };
const LOOPBACK = 'lo';

/** How packets leave the host for the other nodes. */
export interface Underlay {
  /** Bytes of the largest packet that the host sends to every peer in one piece. */
  mtu: number;
  /** Why no packet reaches any peer; undefined when it may. */
  disconnected?: string;
}

/**
 * The smallest MTU of the routes to the peers. Before there is a peer, the MTU of the link of the address, or of the default
 * route: an address on `lo` is reached through other links. Undefined while the host does not have the address.
 */
export async function measureUnderlay(
  network: HostNetwork,
  underlay: IpAddress,
  allPeers: readonly IpAddress[],
): Promise<Underlay | undefined> {
  const link = await underlayLink(network, underlay);
  if (link === undefined) return undefined;
  const family = familyOf(underlay);
  const peers = allPeers.filter((peer) => familyOf(peer) === family);
  const paths = await network.paths(underlay, peers);
  const connection = peers.length === 0 ? {} : judgeConnection([...paths.values()]);
  if (paths.size > 0) return { mtu: smallestMtu(paths.values()), ...connection };
  if (link.name !== LOOPBACK) return { mtu: link.mtu, ...connection };
  return { mtu: smallestMtu((await network.paths(underlay, [ELSEWHERE[family]])).values()), ...connection };
}

/** Underlay.mtu alone. */
export async function measureUnderlayMtu(
  network: HostNetwork,
  underlay: IpAddress,
  peers: readonly IpAddress[],
): Promise<number | undefined> {
  return (await measureUnderlay(network, underlay, peers))?.mtu;
}

function judgeConnection(paths: readonly HostPath[]): Pick<Underlay, 'disconnected'> {
  if (paths.length === 0) return { disconnected: 'no route leads to any of them' };
  if (paths.some(({ carrier }) => carrier)) return {};
  const links = [...new Set(paths.map(({ link }) => link))].sort();
  return { disconnected: `${links.join(' and ')} ${links.length === 1 ? 'has' : 'have'} no carrier` };
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
