import { type Cidr, type Family, familyOf } from '../model/address.ts';
import type { AssignedPort } from '../model/assignment.ts';
import { DEFAULT_DESTINATION } from '../model/block.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { atSet, fromSet, HOST_NETNS, publishedSet } from '../model/linux-names.ts';
import type { PlanContext } from './context.ts';

/** An ipset cannot contain /0, so "any address" is two halves. */
const EVERYTHING: Record<Family, Cidr[]> = { inet: ['0.0.0.0/1', '128.0.0.0/1'], inet6: ['::/1', '8000::/1'] };

/**
 * The ipset elements that make the host redirect a port's packets to the balancer. An unrestricted port is one bit; one
 * with `allowFrom` or `addresses` has an element for every pair of the two, so that while a list changes, no client is
 * allowed that neither list allows, and none is rejected that both allow. SCTP ports too: bitmap:port has TCP and UDP only
 * (ip_set_get_ip_port in net/netfilter/ipset/ip_set_getport.c).
 */
export function planAccess({ subnets }: PlanContext, port: AssignedPort): KernelObject[] {
  const { protocol, published, allowFrom, addresses } = port;
  if (allowFrom === undefined && addresses === undefined && protocol !== 'sctp') {
    return [{ kind: 'set-member', netns: HOST_NETNS, set: publishedSet(protocol), port: published }];
  }
  return subnets.flatMap(({ family }) => {
    const service = { kind: 'set-entry' as const, netns: HOST_NETNS, protocol, port: published };
    const clients = networksOf(allowFrom, family);
    return networksOf(addresses, family).flatMap((local): KernelObject[] => [
      { ...service, set: atSet(family), network: local },
      ...clients.map((client) => ({ ...service, set: fromSet(family), network: client, network2: local })),
    ]);
  });
}

/** The networks of one family; without a list, any address. */
function networksOf(list: readonly Cidr[] | undefined, family: Family): Cidr[] {
  return (list ?? [DEFAULT_DESTINATION[family]])
    .filter((network) => familyOf(network) === family)
    .flatMap((network) => (network === DEFAULT_DESTINATION[family] ? EVERYTHING[family] : [network]));
}
