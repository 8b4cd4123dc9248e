import type { IpAddress } from './address.ts';
import type { KernelObject } from './kinds/registry.ts';
import { LB_HOST_LINK, LB_NETNS } from './linux-names.ts';

/** Addresses of the lb that the DNAT of the host sends packets to: one of each family. */
export function balancerAddresses(objects: Iterable<KernelObject>): Set<IpAddress> {
  const found = new Set<IpAddress>();
  for (const object of objects) {
    if (object.kind === 'address' && object.netns === LB_NETNS && object.dev === LB_HOST_LINK)
      found.add(object.address);
  }
  return found;
}
