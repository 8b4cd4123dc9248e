import type { Cidr, Family, IpAddress, Protocol } from '../model/address.ts';
import { familyOf } from '../model/address.ts';
import { addressAt, hostNetwork } from '../model/block.ts';
import type { FirewallChain, FirewallJump, KernelObject } from '../model/kernel-state.ts';
import {
  atSet,
  BLOCK_SLOT,
  CHAIN_PREFIX,
  fromSet,
  HOST_LINK,
  HOST_NETNS,
  LB_HOST_LINK,
  LB_NETNS,
  NET_LB_LINK,
  networkNetns,
  peerSet,
  publishedSet,
  serviceSet,
  USER_CHAIN,
  VXLAN_LINK,
  VXLAN_PORT,
} from '../model/names.ts';
import type { PlanContext } from './context.ts';
import { usesHostFastPath } from './fast-path.ts';

/**
 * The static firewall of a node. No rule here names a service, a task or a peer, so none is ever rewritten while the
 * node lives. Words are exactly those of `iptables-save` 1.8.9, legacy and nft alike: observed and planned compare as text.
 */

export const PROTOCOLS: readonly Protocol[] = ['tcp', 'udp', 'sctp'];

type Builtin = 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING';
type Table = FirewallChain['table'];

/** One chain of ours and the jump into it, ahead of everybody else's rules; only for packets that match, when given. */
function hookedChain(
  netns: string,
  family: Family,
  table: Table,
  from: Builtin,
  rules: string[],
  match = '',
): KernelObject[] {
  const chain: FirewallChain = { kind: 'chain', netns, family, table, chain: CHAIN_PREFIX + from, rules };
  const jump: FirewallJump = {
    kind: 'jump',
    netns,
    family,
    table,
    from,
    chain: chain.chain,
    match,
    position: 'first',
  };
  return [chain, jump];
}

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
  const vxlan = `-p udp -m udp --dport ${VXLAN_PORT} -j CT --notrack`;
  return [
    ...hookedChain(HOST_NETNS, family, 'raw', 'PREROUTING', [`-d ${hostNetwork(underlay)} ${vxlan}`]),
    ...hookedChain(HOST_NETNS, family, 'raw', 'OUTPUT', [`-s ${hostNetwork(underlay)} ${vxlan}`]),
    // With subnets of the underlay's family the rule stands in their INPUT chain.
    ...(subnets.some((subnet) => subnet.family === family)
      ? []
      : hookedChain(HOST_NETNS, family, 'filter', 'INPUT', [acceptPeers(family)])),
  ];
}

/**
 * VXLAN authenticates nobody, so INPUT is opened for it to the addresses of the cluster's nodes and stays as closed to
 * all others as the administrator has it. The first of all rules: it is met by every packet between nodes.
 */
function acceptPeers(family: Family): string {
  return `-p udp -m udp --dport ${VXLAN_PORT} -m set --match-set ${peerSet(family)} src -j ACCEPT`;
}

function hostChains(context: PlanContext, family: Family, lb: IpAddress): KernelObject[] {
  const { self } = context;
  const published = (protocol: Protocol) => `-m set --match-set ${publishedSet(protocol)} dst`;
  const at = `-m set --match-set ${atSet(family)} dst,dst`;
  const from = `--match-set ${fromSet(family)} src,dst,dst`;
  const dnat = (match: string) => [
    ...PROTOCOLS.map(
      (protocol) =>
        `${match}-p ${protocol} -m addrtype --dst-type LOCAL ${published(protocol)} -j DNAT --to-destination ${lb}`,
    ),
    `${match}-m addrtype --dst-type LOCAL -m set ${from} -j DNAT --to-destination ${lb}`,
  ];
  const rejectRules = (match: string) => [
    `-p tcp ${match} -j REJECT --reject-with ${rejectWith('tcp', family)}`,
    `! -p tcp ${match} -j REJECT --reject-with ${rejectWith('udp', family)}`,
  ];
  // Only what DNAT sent there may pass the host towards the lb, and only its answers come back: mesh0 is no way
  // around the host's firewall, and route_localnet on it opens nobody's 127.0.0.1 (CVE-2020-8558).
  const forward = [
    `-o ${HOST_LINK} -j ${USER_CHAIN}`,
    `-o ${HOST_LINK} -m conntrack --ctstate DNAT -j ACCEPT`,
    `-o ${HOST_LINK} -j DROP`,
    `-i ${HOST_LINK} -m conntrack --ctstate DNAT -j ACCEPT`,
    `-i ${HOST_LINK} -j DROP`,
  ];
  const input = (...more: string[]) => [
    ...(family === familyOf(self.underlay) ? [acceptPeers(family)] : []),
    `-i ${HOST_LINK} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
    ...more,
    `-i ${HOST_LINK} -j DROP`,
    // Who may not come in to a restricted port got no DNAT, and is refused before anything of the host answers.
    ...rejectRules(`-m conntrack --ctstate NEW ${at} -m set ! ${from}`),
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
      ...hookedChain(HOST_NETNS, family, 'nat', 'PREROUTING', dnat('')),
      ...hookedChain(HOST_NETNS, family, 'nat', 'OUTPUT', dnat('')),
      // Loopback sources cannot leave the host; they become the node's own overlay address. So does the underlay
      // address where the lb answers in its name.
      ...hookedChain(HOST_NETNS, family, 'nat', 'POSTROUTING', [
        `-s 127.0.0.0/8 -o ${HOST_LINK} -j MASQUERADE`,
        ...(usesHostFastPath(context) ? [`-s ${hostNetwork(self.underlay)} -o ${HOST_LINK} -j MASQUERADE`] : []),
      ]),
      ...hookedChain(HOST_NETNS, family, 'filter', 'INPUT', input()),
      user,
      ...hookedChain(HOST_NETNS, family, 'filter', 'FORWARD', forward),
    ];
  }
  return [
    ...hookedChain(HOST_NETNS, family, 'nat', 'PREROUTING', dnat('')),
    // IPv6 has no route_localnet: a connection to ::1 could never leave. It is refused at once, so that clients
    // of `localhost` go on to 127.0.0.1.
    ...hookedChain(HOST_NETNS, family, 'nat', 'OUTPUT', dnat('! -d ::1/128 ')),
    ...hookedChain(
      HOST_NETNS,
      family,
      'filter',
      'OUTPUT',
      [
        ...PROTOCOLS.map(
          (protocol) => `-p ${protocol} ${published(protocol)} -j REJECT --reject-with ${rejectWith(protocol, family)}`,
        ),
        ...rejectRules(at),
      ],
      '-d ::1/128',
    ),
    // Neighbour discovery is ICMPv6 and never part of a connection.
    ...hookedChain(HOST_NETNS, family, 'filter', 'INPUT', input(`-i ${HOST_LINK} -p ipv6-icmp -j ACCEPT`)),
    user,
    ...hookedChain(HOST_NETNS, family, 'filter', 'FORWARD', forward),
  ];
}

/** Published port → fwmark. What gets no mark is for the lb itself, which listens to nothing: refused at once. */
function lbChains(context: PlanContext, family: Family): KernelObject[] {
  const { self } = context;
  const toMark = PROTOCOLS.map((protocol) => `-p ${protocol} -j SET --map-set ${serviceSet(protocol)} dst --map-mark`);
  // In the place of the service's mark the one that goes over the wire: who brought the flow in.
  const mark = `-j MARK --set-xmark 0x${self.number.toString(16)}/0xffffffff`;
  return [
    // What took the shortcut has its mark already.
    ...hookedChain(LB_NETNS, family, 'mangle', 'PREROUTING', toMark, `-i ${LB_HOST_LINK} -m mark --mark 0x0`),
    ...hookedChain(LB_NETNS, family, 'mangle', 'POSTROUTING', [mark, CLAMP_MSS], `-o ${VXLAN_LINK}`),
  ];
}

/** Nobody has to find the smaller MTU of the overlay by losing packets. */
const CLAMP_MSS = `-p tcp -m tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu`;

/**
 * The router remembers which node brought a flow to a local task, and sends the answers back through that node.
 * Only flows of local tasks are tracked.
 */
function routerChains(context: PlanContext, family: Family, cidr: Cidr, block: Cidr): KernelObject[] {
  const netns = networkNetns(context.network.name);
  // The only addresses of the overlay that lie behind the lb: loopback clients of this node, and the lb itself.
  const behindLb = [BLOCK_SLOT.host, BLOCK_SLOT.lbNet].map((slot) => hostNetwork(addressAt(block, slot)));
  const admin = family === 'inet' ? 'icmp-admin-prohibited' : 'icmp6-adm-prohibited';
  return [
    // The same client address and port may come in through several nodes at once; the zone keeps them apart.
    ...hookedChain(netns, family, 'raw', 'PREROUTING', [`${FROM_OTHER_NODE} -j CT --zone-orig mark`]),
    ...hookedChain(netns, family, 'mangle', 'PREROUTING', [
      `${FROM_OTHER_NODE} -j CONNMARK --save-mark ${ALL_BITS}`,
      // Left on, the mark would route the request straight back to where it came from.
      `${FROM_OTHER_NODE} -j MARK --set-xmark 0x0/0xffffffff`,
      `-i t-+ -m connmark ! --mark 0x0 -j CONNMARK --restore-mark ${ALL_BITS}`,
    ]),
    // What the router itself answers for a task (reset, unreachable) goes the way of the task's answers.
    ...hookedChain(netns, family, 'mangle', 'OUTPUT', [
      `-m connmark ! --mark 0x0 -j CONNMARK --restore-mark ${ALL_BITS}`,
    ]),
    ...hookedChain(netns, family, 'mangle', 'POSTROUTING', [CLAMP_MSS], `-o ${VXLAN_LINK}`),
    ...hookedChain(netns, family, 'filter', 'FORWARD', [
      // Tasks answer; they open no connections of their own over this network.
      '-i t-+ -m conntrack --ctstate INVALID -j DROP',
      `-i t-+ -m conntrack --ctstate NEW -j REJECT --reject-with ${admin}`,
      // An overlay address without a task would circle between router and lb until its TTL ends.
      ...behindLb.map((address) => `-d ${address} -o ${NET_LB_LINK} -j RETURN`),
      `-d ${cidr} -o ${NET_LB_LINK} -p tcp -j REJECT --reject-with ${rejectWith('tcp', family)}`,
      `-d ${cidr} -o ${NET_LB_LINK} -j REJECT --reject-with ${rejectWith('udp', family)}`,
    ]),
    // Does nothing but switch NAT on: conntrack then finds a free source port when two zones meet in one reply tuple.
    ...hookedChain(netns, family, 'nat', 'POSTROUTING', ['-j RETURN']),
  ];
}

/** By another node, whose number is the packet's mark: over vxlan0, or past it by the shortcut. */
const FROM_OTHER_NODE = '-m mark ! --mark 0x0';
const ALL_BITS = '--nfmask 0xffffffff --ctmask 0xffffffff';

function rejectWith(protocol: Protocol, family: Family): string {
  if (protocol === 'tcp') return 'tcp-reset';
  return family === 'inet' ? 'icmp-port-unreachable' : 'icmp6-port-unreachable';
}
