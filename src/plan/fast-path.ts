import { familyOf } from '../model/address.ts';
import type { AssignedPort, AssignedTask, Peer } from '../model/assignment.ts';
import { hostNetwork } from '../model/block.ts';
import { type FastPathFilter, type FastPathProgram, isForOutgoing } from '../model/kinds/fast-path.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import {
  HOST_LINK,
  HOST_NET_LINK,
  HOST_NETNS,
  LB_HOST_LINK,
  LB_NET_LINK,
  LB_NETNS,
  NET_HOST_LINK,
  NET_LB_LINK,
  portMark,
  taskVeth,
  VXLAN_LINK,
} from '../model/linux-names.ts';
import type { PlanContext } from './context.ts';
import { type Setting, sysctlsOf } from './sysctls.ts';
import { veth } from './veth.ts';

/*
 * The fast path: small programs at the ingress of a few links that redirect IPv4 packets directly to where the standard
 * path would deliver them, bypassing netfilter and routing in between. Packets that a program does not handle take the
 * standard path, so everything it needs stays in place. docs/data-path.md describes what is bypassed and why.
 */

/** RT_TABLE_LOCAL, include/uapi/linux/rtnetlink.h */
const LOCAL_TABLE = 255;

/** Whether packets of clients bypass the host's netfilter; only for the node's own underlay address. */
export function usesHostFastPath({ fastPath, self, subnets }: PlanContext): boolean {
  return fastPath?.link !== undefined && familyOf(self.underlay) === 'inet' && hasIpv4(subnets);
}

/** The static part: programs on the links of the skeleton, and the settings and routes they need. */
export function planFastPath(context: PlanContext): KernelObject[] {
  const { fastPath, subnets, router } = context;
  if (fastPath === undefined || !hasIpv4(subnets)) return [];
  return [
    ...[VXLAN_LINK, NET_LB_LINK].map((link) => program(router, link, { type: 'router-in' })),
    // Conntrack misses the first packets of these flows, so it cannot check TCP sequence numbers.
    ...sysctlsOf(router, [['net.netfilter.nf_conntrack_tcp_be_liberal', '1']]),
    ...(usesHostFastPath(context) ? [...hostPrograms(context, router), ...lbSettings(context)] : []),
  ];
}

/** The programs of the host, and the veth from the host to the router. */
function hostPrograms({ self, fastPath, network, mtu }: PlanContext, router: string): KernelObject[] {
  const address = self.underlay;
  const links = { lb: HOST_LINK, router: HOST_NET_LINK, vni: network.vni, number: self.number };
  return [
    program(HOST_NETNS, fastPath!.link!, { type: 'host-in', address, ...links }),
    program(HOST_NETNS, fastPath!.link!, { type: 'host-sent', address, lb: HOST_LINK }),
    program(HOST_NETNS, HOST_LINK, { type: 'host-out', address }),
    veth([HOST_NETNS, HOST_NET_LINK], [router, NET_HOST_LINK], mtu),
    ...sysctlsOf(router, [[`net.ipv4.conf.${NET_HOST_LINK}.rp_filter`, '0']]),
    program(router, NET_HOST_LINK, { type: 'router-in' }),
  ];
}

/** What the lb needs to send replies from the host's address. */
function lbSettings({ self }: PlanContext): KernelObject[] {
  return [
    // The destination is still the node's address, so the lb must have it: IPVS handles local packets only, and
    // ICMP errors need a source address (__ip_dev_find). The lb must not announce it to the host by ARP.
    {
      kind: 'route',
      netns: LB_NETNS,
      type: 'local',
      destination: hostNetwork(self.underlay),
      table: LOCAL_TABLE,
      dev: 'lo',
      onlink: false,
      scope: 'host',
    },
    ...sysctlsOf(LB_NETNS, [
      [`net.ipv4.conf.${LB_HOST_LINK}.arp_announce`, '2'],
      // Avoids the reverse lookup of every source that custom local routes enable (fib_validate_source).
      ...[LB_HOST_LINK, LB_NET_LINK, VXLAN_LINK].map((link): Setting => [`net.ipv4.conf.${link}.accept_local`, '1']),
      // Decapsulated replies arrive on the link they leave by: no ICMP redirect may be sent for that.
      ...['all', LB_HOST_LINK].map((link): Setting => [`net.ipv4.conf.${link}.send_redirects`, '0']),
      // Replies leave by one link for any source: no second route lookup (ip_vs_route_me_harder).
      ['net.ipv4.vs.snat_reroute', '0'],
    ]),
  ];
}

function program(netns: string, link: string, definition: FastPathProgram): FastPathFilter {
  const direction = isForOutgoing(definition) ? { egress: true } : {};
  return { kind: 'fast-path', netns, link, ...direction, program: definition };
}

function hasIpv4(subnets: PlanContext['subnets']): boolean {
  return subnets.some(({ family }) => family === 'inet');
}

/** The entry of another node, whose packets are decapsulated without the VXLAN device. */
export function planFastPathPeer(context: PlanContext, peer: Peer): KernelObject[] {
  if (!usesHostFastPath(context) || familyOf(peer.underlay) !== 'inet') return [];
  return [{ kind: 'fast-path-peer', netns: HOST_NETNS, address: peer.underlay }];
}

/** The entry for packets to a task, and the program for packets from it. */
export function planFastPathTask(context: PlanContext, task: AssignedTask): KernelObject[] {
  const { fastPath, network, self, subnets, router } = context;
  if (fastPath === undefined || !hasIpv4(subnets)) return [];
  const link = taskVeth(task.id);
  return task.addresses
    .filter(({ networkId, address }) => networkId === network.id && familyOf(address) === 'inet')
    .flatMap(({ address }): KernelObject[] => [
      program(router, link, { type: 'task-out', vxlan: VXLAN_LINK, lb: NET_LB_LINK, number: self.number }),
      { kind: 'fast-path-task', netns: router, address, link },
    ]);
}

/**
 * An unrestricted port that IPVS finds by its mark, with an endpoint of IPv4: refusals are left to the standard path.
 */
export function planFastPathPort(context: PlanContext, port: AssignedPort): KernelObject[] {
  const { protocol, published, allowFrom, addresses, persistence, endpoints } = port;
  const isUnrestricted = allowFrom === undefined && addresses === undefined && persistence === undefined;
  const hasEndpoint = endpoints.some(({ address }) => familyOf(address) === 'inet');
  const isReachable = protocol !== 'sctp' && hasEndpoint;
  if (!usesHostFastPath(context) || !isUnrestricted || !isReachable) return [];
  return [{ kind: 'fast-path-port', netns: HOST_NETNS, mark: portMark(protocol, published) }];
}
