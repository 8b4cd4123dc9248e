import ipaddr from 'ipaddr.js';
import type { HostAddress, HostRoute } from '../../kernel/kernel.ts';
import { type Cidr, familyOf } from '../../model/address.ts';
import { hostNetwork, isWithin } from '../../model/block.ts';
import { type Condition, condition } from '../../model/condition.ts';
import { HOST_LINKS } from '../../model/linux-names.ts';

/** Networks that a condition names. */
const MAX_NAMED = 5;
/** Wider networks are not LANs: a VPN client replaces the default route by two /1 networks. */
const WIDEST_LAN = 8;

/** Whether one of two networks contains the other. */
export function overlaps(a: Cidr, b: Cidr): boolean {
  if (familyOf(a) !== familyOf(b)) return false;
  return isWithin(a.slice(0, a.indexOf('/')), b) || isWithin(b.slice(0, b.indexOf('/')), a);
}

/**
 * The condition for networks of the host inside the overlay, or around it on a link of the host. Packets to the block of a
 * node stay in the overlay, and routers reject other answers into it, so clients with such addresses would get none.
 * A gateway's route to a network around the overlay, such as the default route, says nothing about addresses inside.
 */
export function overlapCondition(
  routes: readonly HostRoute[],
  addresses: readonly HostAddress[],
  overlay: readonly Cidr[],
): Condition | undefined {
  const found = new Set<string>();
  for (const subnet of overlay) {
    for (const { destination, link, via } of routes) {
      if (overlaps(destination, subnet) && (isInside(destination, subnet) || (via === undefined && isLan(destination))))
        found.add(`${destination} on ${link}`);
    }
    for (const { address, link } of addresses) {
      const isNamed = [...found].some((network) => isWithin(address, network.slice(0, network.indexOf(' '))));
      if (!HOST_LINKS.includes(link) && isWithin(address, subnet) && !isNamed)
        found.add(`${hostNetwork(address)} on ${link}`);
    }
  }
  if (found.size === 0) return undefined;
  const more = found.size - MAX_NAMED;
  const networks = [...found].sort().slice(0, MAX_NAMED).join(', ') + (more > 0 ? ` and ${more} more` : '');
  return condition('OverlayOverlap', { networks, overlay: overlay.join(', ') });
}

function isInside(network: Cidr, subnet: Cidr): boolean {
  return prefixOf(network) >= prefixOf(subnet);
}

function isLan(network: Cidr): boolean {
  return prefixOf(network) >= WIDEST_LAN;
}

function prefixOf(network: Cidr): number {
  return ipaddr.parseCIDR(network)[1];
}
