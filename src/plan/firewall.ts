import type { Cidr, Family, IpAddress, Protocol } from '../model/address.ts';
import { familyOf } from '../model/address.ts';
import type { AssignedTask } from '../model/assignment.ts';
import { addressAt, hostNetwork, LINK_LOCAL } from '../model/block.ts';
import { BLOCK_SLOT } from '../model/identifiers.ts';
import type { FirewallChain } from '../model/kinds/chain.ts';
import type { FirewallMatch, FirewallRule, FirewallTarget } from '../model/kinds/firewall-rule.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import {
  atSet,
  fromSet,
  HOST_LINK,
  HOST_NETNS,
  KNOWN_FLOW_MARK,
  LB_HOST_LINK,
  LB_NETNS,
  NET_LB_LINK,
  peerSet,
  publishedSet,
  serviceSet,
  TASK_LINK,
  TRANSLATED_PORTS,
  USER_CHAIN,
  VXLAN_LINK,
  VXLAN_PORT,
} from '../model/linux-names.ts';
import type { PlanContext } from './context.ts';
import { usesHostFastPath } from './fast-path.ts';
import {
  ACCEPT,
  connection,
  connectionMarked,
  DROP,
  destination,
  input,
  inSet,
  MASQUERADE,
  marked,
  NO_TRACKING,
  not,
  ofProtocol,
  output,
  RESTORE_MARK,
  RETURN,
  rule,
  SAVE_MARK,
  setMark,
  source,
  toLocalAddress,
  udpTo,
} from './firewall-words.ts';
import { hookedChain } from './hooked-chain.ts';

/**
 * The static firewall of a node. No rule here depends on a service, a task or a peer, so none is rewritten at run time.
 */

export const PROTOCOLS: readonly Protocol[] = ['tcp', 'udp', 'sctp'];

/** Every chain of ours in the three kinds of netns, and the jumps into them. */
export function planFirewall(context: PlanContext): KernelObject[] {
  const perFamily = context.subnets.flatMap(({ family, cidr, block }) => [
    ...hostChains(context, family, addressAt(block, BLOCK_SLOT.lb)),
    ...lbChains(context, family),
    ...routerChains(context, family, cidr, block),
  ]);
  return [...underlayChains(context), ...perFamily];
}

/**
 * The outer packets between VTEPs need no conntrack entry. Only ours: another VXLAN on another address of this host
 * keeps its own.
 */
function underlayChains({ self: { underlay }, subnets }: PlanContext): KernelObject[] {
  const family = familyOf(underlay);
  const self = hostNetwork(underlay);
  const vxlan = udpTo(VXLAN_PORT);
  return [
    ...hookedChain(HOST_NETNS, family, 'raw', 'PREROUTING', [rule(NO_TRACKING, destination(self), ...vxlan)]),
    ...hookedChain(HOST_NETNS, family, 'raw', 'OUTPUT', [rule(NO_TRACKING, source(self), ...vxlan)]),
    // With subnets of the underlay's family the rule is in their INPUT chain.
    ...(subnets.some((subnet) => subnet.family === family)
      ? []
      : hookedChain(HOST_NETNS, family, 'filter', 'INPUT', [acceptPeers(family)])),
  ];
}

/**
 * VXLAN authenticates no one, so INPUT is opened for it to the addresses of the cluster's nodes and stays as closed to
 * all others as the administrator has it. It is the first rule, because every packet between nodes meets it.
 */
function acceptPeers(family: Family): FirewallRule {
  return rule(ACCEPT, ...udpTo(VXLAN_PORT), inSet(peerSet(family), 'src'));
}

function hostChains(context: PlanContext, family: Family, lb: IpAddress): KernelObject[] {
  const { self } = context;
  const isPublished = (protocol: Protocol) => inSet(publishedSet(protocol), 'dst');
  const atRestricted = inSet(atSet(family), 'dst', 'dst');
  const fromAllowed = inSet(fromSet(family), 'src', 'dst', 'dst');
  const toLb: FirewallTarget = { target: 'dnat', to: lb };
  const dnat = (...matches: FirewallMatch[]) => [
    ...PROTOCOLS.map((protocol) => rule(toLb, ...matches, ofProtocol(protocol), toLocalAddress, isPublished(protocol))),
    rule(toLb, ...matches, toLocalAddress, fromAllowed),
  ];
  const rejectRules = (...matches: FirewallMatch[]) => [
    rule(reject('tcp', family), ofProtocol('tcp'), ...matches),
    rule(reject('udp', family), not(ofProtocol('tcp')), ...matches),
  ];
  // Only connections that DNAT redirected are forwarded to the lb, and only their replies come back: mesh0 does not
  // bypass the host's firewall, and route_localnet on it does not expose 127.0.0.1 (CVE-2020-8558).
  const forward = [
    rule({ target: 'jump', chain: USER_CHAIN }, output(HOST_LINK)),
    rule(ACCEPT, output(HOST_LINK), connection('DNAT')),
    rule(DROP, output(HOST_LINK)),
    rule(ACCEPT, input(HOST_LINK), connection('DNAT')),
    rule(DROP, input(HOST_LINK)),
  ];
  const inputRules = (...more: FirewallRule[]) => [
    ...(family === familyOf(self.underlay) ? [acceptPeers(family)] : []),
    rule(ACCEPT, input(HOST_LINK), connection('RELATED', 'ESTABLISHED')),
    ...more,
    rule(DROP, input(HOST_LINK)),
    // Clients that a restricted port does not allow get no DNAT and are rejected before a program of the host can reply.
    ...rejectRules(connection('NEW'), atRestricted, not(fromAllowed)),
  ];
  const user: FirewallChain = {
    kind: 'chain',
    netns: HOST_NETNS,
    family,
    table: 'filter',
    chain: USER_CHAIN,
    rules: [],
    administrator: true,
  };
  if (family === 'inet') {
    return [
      ...hookedChain(HOST_NETNS, family, 'nat', 'PREROUTING', dnat()),
      ...hookedChain(HOST_NETNS, family, 'nat', 'OUTPUT', dnat()),
      // Packets with a loopback source cannot leave the host; SNAT to the node's own overlay address. The same for the
      // underlay address if the lb replies from it.
      ...hookedChain(HOST_NETNS, family, 'nat', 'POSTROUTING', [
        rule(MASQUERADE, source('127.0.0.0/8'), output(HOST_LINK)),
        ...(usesHostFastPath(context) ? besideFastPath(self.underlay) : []),
      ]),
      ...hookedChain(HOST_NETNS, family, 'filter', 'INPUT', inputRules()),
      user,
      ...hookedChain(HOST_NETNS, family, 'filter', 'FORWARD', forward),
    ];
  }
  const toLoopback = destination('::1/128');
  // The kernel forwards no packet with a link-local source (ip6_forward), so neither a request from such an address nor
  // the answer of one that was called could pass: the host keeps both.
  const keepLinkLocal = [rule(RETURN, source(LINK_LOCAL)), rule(RETURN, destination(LINK_LOCAL))];
  return [
    ...hookedChain(HOST_NETNS, family, 'nat', 'PREROUTING', [...keepLinkLocal, ...dnat()]),
    // IPv6 has no route_localnet: a connection to ::1 could never leave. It is rejected at once, so that clients
    // of `localhost` continue with 127.0.0.1.
    ...hookedChain(HOST_NETNS, family, 'nat', 'OUTPUT', [...keepLinkLocal, ...dnat(not(toLoopback))]),
    ...hookedChain(
      HOST_NETNS,
      family,
      'filter',
      'OUTPUT',
      [
        ...PROTOCOLS.map((protocol) => rule(reject(protocol, family), ofProtocol(protocol), isPublished(protocol))),
        ...rejectRules(atRestricted),
      ],
      toLoopback,
    ),
    // Neighbour discovery is ICMPv6 and never part of a connection.
    ...hookedChain(
      HOST_NETNS,
      family,
      'filter',
      'INPUT',
      inputRules(rule(ACCEPT, input(HOST_LINK), ofProtocol('ipv6-icmp'))),
    ),
    user,
    ...hookedChain(HOST_NETNS, family, 'filter', 'FORWARD', forward),
  ];
}

/**
 * In the lb, connections of one client port would be equal if one is translated here and the other is not: through the
 * underlay address by the fast path, and through a further address. So translated ones get ports that host-in does not redirect.
 */
function besideFastPath(underlay: IpAddress): FirewallRule[] {
  return [
    rule(MASQUERADE, source(hostNetwork(underlay)), output(HOST_LINK)),
    ...(['tcp', 'udp'] as const).map((protocol) =>
      rule(
        { target: 'snat ports', ...TRANSLATED_PORTS },
        output(HOST_LINK),
        ofProtocol(protocol),
        inSet(publishedSet(protocol), 'dst'),
      ),
    ),
  ];
}

/** Published port → fwmark. A packet without a mark is for the lb itself, which has no listeners: rejected at once. */
function lbChains({ self }: PlanContext, family: Family): KernelObject[] {
  const toMark = PROTOCOLS.map((protocol) =>
    rule({ target: 'mark from set', set: serviceSet(protocol) }, ofProtocol(protocol)),
  );
  // Replaces the service's mark by the one that is sent over the underlay: the number of the ingress node.
  const sendNodeNumber = rule(setMark(self.number));
  return [
    // Packets from the fast path have their mark already.
    ...hookedChain(LB_NETNS, family, 'mangle', 'PREROUTING', toMark, input(LB_HOST_LINK), marked(0)),
    ...hookedChain(LB_NETNS, family, 'mangle', 'POSTROUTING', [sendNodeNumber, CLAMP_MSS], output(VXLAN_LINK)),
  ];
}

/** Without it, hosts would discover the smaller MTU of the overlay only by packet loss. */
const CLAMP_MSS = rule({ target: 'clamp mss' }, ofProtocol('tcp'), { match: 'syn' });

/**
 * The router remembers through which node a flow arrived at a local task, and sends the replies back through that node.
 * Only flows of local tasks are tracked.
 */
function routerChains(
  { router: netns, fastPath }: PlanContext,
  family: Family,
  cidr: Cidr,
  block: Cidr,
): KernelObject[] {
  // The only addresses of the overlay behind the lb: loopback clients of this node, and the lb itself.
  const behindLb = [BLOCK_SLOT.host, BLOCK_SLOT.lbNet].map((slot) => hostNetwork(addressAt(block, slot)));
  const admin = family === 'inet' ? 'icmp-admin-prohibited' : 'icmp6-adm-prohibited';
  const fromTask = input('t-+');
  const toLb = output(NET_LB_LINK);
  const isFlowOfOtherNode = not(connectionMarked(0));
  const hasFastPath = fastPath !== undefined && family === 'inet';
  // Fragments of flows that conntrack does not know: their mark is what the fast path knows (native/bpf/flow.h).
  const ofFastPath = hasFastPath
    ? [rule(NO_TRACKING, marked(KNOWN_FLOW_MARK)), rule(NO_TRACKING, fromTask, not(marked(0)))]
    : [];
  return [
    // The same client address and port may arrive through several nodes at once; the conntrack zone separates them.
    ...hookedChain(netns, family, 'raw', 'PREROUTING', [
      ...ofFastPath,
      rule({ target: 'zone from mark' }, FROM_OTHER_NODE),
    ]),
    ...hookedChain(netns, family, 'mangle', 'PREROUTING', [
      rule(SAVE_MARK, FROM_OTHER_NODE),
      // If the mark stayed, the request would be routed back to the node it came from.
      rule(setMark(0), ...(hasFastPath ? [not(fromTask)] : []), FROM_OTHER_NODE),
      rule(RESTORE_MARK, fromTask, isFlowOfOtherNode),
    ]),
    // Replies of the router itself on behalf of a task (reset, unreachable) take the same route as the task's replies.
    ...hookedChain(netns, family, 'mangle', 'OUTPUT', [rule(RESTORE_MARK, isFlowOfOtherNode)]),
    ...hookedChain(netns, family, 'mangle', 'POSTROUTING', [CLAMP_MSS], output(VXLAN_LINK)),
    ...hookedChain(netns, family, 'filter', 'FORWARD', [
      // Tasks only reply; they open no connections over this network.
      rule(DROP, fromTask, connection('INVALID')),
      rule({ target: 'reject', with: admin }, fromTask, connection('NEW')),
      // A packet to an overlay address without a task would circle between router and lb until its TTL ends.
      ...behindLb.map((address) => rule(RETURN, destination(address), toLb)),
      rule(reject('tcp', family), destination(cidr), toLb, ofProtocol('tcp')),
      rule(reject('udp', family), destination(cidr), toLb),
    ]),
    // Only enables NAT: conntrack then picks a free source port if flows of two zones have the same reply tuple.
    ...hookedChain(netns, family, 'nat', 'POSTROUTING', [rule(RETURN)]),
  ];
}

/** In a task's netns. Conntrack keeps apart connections that the redirect would make equal: later ones get another source port. */
export function planRedirects(netns: string, family: Family, { redirects = [] }: AssignedTask): KernelObject[] {
  if (redirects.length === 0) return [];
  const rules = redirects.map(({ protocol, from, to }) =>
    rule({ target: 'dnat port', port: to }, input(TASK_LINK), ofProtocol(protocol), {
      match: 'port',
      protocol,
      port: from,
    }),
  );
  return hookedChain(netns, family, 'nat', 'PREROUTING', rules);
}

/** Matches packets of another node, whose number is the mark: received on vxlan0, or by the fast path. */
const FROM_OTHER_NODE = not(marked(0));

function reject(protocol: Protocol, family: Family): FirewallTarget {
  if (protocol === 'tcp') return { target: 'reject', with: 'tcp-reset' };
  return { target: 'reject', with: family === 'inet' ? 'icmp-port-unreachable' : 'icmp6-port-unreachable' };
}
