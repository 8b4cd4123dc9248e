import { type Family, familyOf } from '../model/address.ts';
import { addressAt, DEFAULT_DESTINATION, hostNetwork, hostPrefix } from '../model/block.ts';
import { BLOCK_SLOT, vtepMac } from '../model/identifiers.ts';
import type { HashSet } from '../model/kinds/ipset.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import type { Vxlan } from '../model/kinds/vxlan.ts';
import {
  atSet,
  fromSet,
  HOST_LINK,
  HOST_NETNS,
  LB_HOST_LINK,
  LB_NET_LINK,
  LB_NETNS,
  LB_VNI,
  NET_LB_LINK,
  peerSet,
  publishedSet,
  serviceSet,
  VXLAN_LINK,
  VXLAN_PORT,
} from '../model/linux-names.ts';
import type { PlanContext } from './context.ts';
import { planFastPath } from './fast-path.ts';
import { PROTOCOLS, planFirewall } from './firewall.ts';
import { unmarkedRule } from './return-rules.ts';
import { route } from './route.ts';
import { planSysctls } from './sysctls.ts';
import { veth } from './veth.ts';

/**
 * What a node has before any peer, port or task: host, lb and router, connected by two veth pairs, and two VXLAN devices
 * to other nodes: the lb sends requests to their routers, the router sends replies to their lbs.
 */
export function planSkeleton(context: PlanContext): KernelObject[] {
  const { mtu } = context;
  const { router } = context;
  return [
    { kind: 'netns', netns: LB_NETNS, loopbackUp: true },
    { kind: 'netns', netns: router, loopbackUp: true },
    ...planSysctls(context),
    veth([HOST_NETNS, HOST_LINK], [LB_NETNS, LB_HOST_LINK], mtu),
    veth([LB_NETNS, LB_NET_LINK], [router, NET_LB_LINK], mtu),
    vxlan(context, router, context.network.vni),
    vxlan(context, LB_NETNS, LB_VNI),
    ...context.subnets.flatMap(({ family, block }) => planAddresses(router, family, block)),
    ...context.subnets.map(({ family }) => unmarkedRule(router, family)),
    ...PROTOCOLS.flatMap(planSets),
    ...planHashSets(context),
    ...planFirewall(context),
    ...planFastPath(context),
  ];
}

/** Both have the same MAC address; their VNIs differ, so no frame can reach the wrong one. */
function vxlan({ self, mtu }: PlanContext, netns: string, vni: number): Vxlan {
  return {
    kind: 'vxlan',
    netns,
    name: VXLAN_LINK,
    underlayNetns: HOST_NETNS,
    vni,
    local: self.underlay,
    port: VXLAN_PORT,
    mac: vtepMac(self.number),
    mtu,
    up: true,
    gbp: true,
    learning: false,
  };
}

function planSets(protocol: (typeof PROTOCOLS)[number]): KernelObject[] {
  const range = { from: 0, to: 65_535 };
  const type = 'bitmap:port' as const;
  return [
    { kind: 'ipset', netns: HOST_NETNS, name: publishedSet(protocol), type, range, skbinfo: false },
    { kind: 'ipset', netns: LB_NETNS, name: serviceSet(protocol), type, range, skbinfo: true },
  ];
}

/** Of the host: clients of restricted ports per family in use, and peers in the one family of the underlay. */
function planHashSets({ self, subnets }: PlanContext): KernelObject[] {
  const set = (name: string, type: HashSet['type'], family: Family): HashSet => ({
    kind: 'ipset',
    netns: HOST_NETNS,
    name,
    type,
    family,
    skbinfo: false,
  });
  const underlay = familyOf(self.underlay);
  return [
    set(peerSet(underlay), 'hash:ip', underlay),
    ...subnets.flatMap(({ family }) => [
      set(fromSet(family), 'hash:net,port,net', family),
      set(atSet(family), 'hash:net,port', family),
    ]),
  ];
}

function planAddresses(router: string, family: Family, block: string): KernelObject[] {
  const at = (slot: keyof typeof BLOCK_SLOT) => addressAt(block, BLOCK_SLOT[slot]);
  const prefix = hostPrefix(family);
  const ownAddress = (netns: string, dev: string, address: string): KernelObject => ({
    kind: 'address',
    netns,
    dev,
    address,
    prefix,
  });
  const anyDestination = DEFAULT_DESTINATION[family];
  const host = at('host');
  const lb = at('lb');
  const lbNet = at('lbNet');
  const gateway = at('router');
  return [
    ownAddress(HOST_NETNS, HOST_LINK, host),
    ownAddress(LB_NETNS, LB_HOST_LINK, lb),
    ownAddress(LB_NETNS, LB_NET_LINK, lbNet),
    ownAddress(router, NET_LB_LINK, gateway),
    ownAddress(router, VXLAN_LINK, at('vtep')),
    route(HOST_NETNS, hostNetwork(lb), HOST_LINK, { source: host }),
    route(LB_NETNS, hostNetwork(host), LB_HOST_LINK),
    route(LB_NETNS, anyDestination, LB_HOST_LINK, { via: host }),
    route(LB_NETNS, hostNetwork(gateway), LB_NET_LINK),
    // Not the whole network: IPv6 takes no gateway on vxlan0 that a route to another link covers (ip6_route_check_nh_onlink).
    route(LB_NETNS, block, LB_NET_LINK, { via: gateway }),
    route(router, hostNetwork(lbNet), NET_LB_LINK),
    route(router, hostNetwork(host), NET_LB_LINK, { via: lbNet }),
    route(router, anyDestination, NET_LB_LINK, { via: lbNet }),
  ];
}
