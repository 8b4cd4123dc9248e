import type { Family, MacAddress, Protocol } from './address.ts';

/**
 * Ownership by name: whatever carries one of these names, marks or numbers was made by meshd, and nothing else
 * is ever changed or deleted. The names are the same on every node, so `ipvsadm -Ln` reads the same everywhere.
 */

/** The netns meshd itself runs in. Not a file name: the kernel room maps it to /proc/self/ns/net. */
export const HOST_NETNS = 'host';
export const LB_NETNS = 'mesh-lb';
export const NETNS_PREFIX = 'mesh-';

/** The router of an overlay network. */
export function networkNetns(network: string): string {
  return `mesh-net-${network}`;
}

/** What a task lives in, alone. */
export function taskNetns(taskId: string): string {
  return `mesh-task-${taskId}`;
}

/** Veth between host (`mesh0`) and lb netns (`host0`). */
export const HOST_LINK = 'mesh0';
export const LB_HOST_LINK = 'host0';
/** Veth between host (`mesh1`) and the ingress router (`host0`): for what the shortcut unpacks. */
export const HOST_NET_LINK = 'mesh1';
export const NET_HOST_LINK = 'host0';
/** The host's own ones. */
export const HOST_LINKS: readonly string[] = [HOST_LINK, HOST_NET_LINK];
/** Veth between lb (`net0`) and the ingress router (`lb0`). */
export const LB_NET_LINK = 'net0';
export const NET_LB_LINK = 'lb0';
/** In the router, and in the lb: each speaks to the other one of every node. */
export const VXLAN_LINK = 'vxlan0';
export const TASK_LINK = 'eth0';

/** The router's end of a task's veth; IFNAMSIZ is 16 with the NUL, task ids are 12 characters. */
export function taskVeth(taskId: string): string {
  return `t-${taskId}`;
}

export const VXLAN_PORT = 4789;
export const INGRESS_NETWORK = 'ingress';
/** First VNI handed out to a network, as in Swarm. */
export const FIRST_VNI = 4096;
/** Of the lbs: frames with it are for the lb of a node, those with a network's VNI for its router. */
export const LB_VNI = FIRST_VNI - 1;

/** rtm_protocol of every route of ours; 109 = 'm', unassigned in include/uapi/linux/rtnetlink.h and iproute2's rt_protos. */
export const ROUTE_PROTOCOL = 109;
/** Largest number of a node: the return rules of all of them have room before main's 32766. */
export const NODE_NUMBER_LIMIT = 20_000;
/**
 * `ip rule` priorities in the netns of a network: whatever stands between `first` and `last` is ours. What they are for
 * is in src/plan/return-rules.ts; `base` + number is where every node's rule was in earlier versions.
 */
export const RULE_PRIORITY = {
  first: 10_000,
  unmarked: 10_000,
  base: 10_000,
  spans: 30_100,
  rest: 30_101,
  /** Two for each span: its list, and the end of it. */
  spanLists: 30_200,
  /** Two for each block of numbers, likewise. */
  blocks: 31_000,
  last: 32_700,
  /** The kernel's own rule for the table `main`. */
  main: 32_766,
} as const;
/** Routing table of the way back to the node with this number. */
export function returnTable(nodeNumber: number): number {
  return 100_000 + nodeNumber;
}

export const SET_PREFIX = 'mesh-';
// One text each: as many as there are ports would be in memory otherwise.
const PUBLISHED_SETS = { tcp: 'mesh-pub-tcp', udp: 'mesh-pub-udp', sctp: 'mesh-pub-sctp' } as const;
const SERVICE_SETS = { tcp: 'mesh-svc-tcp', udp: 'mesh-svc-udp', sctp: 'mesh-svc-sctp' } as const;
/** Host: published ports of a protocol (bitmap:port). */
export function publishedSet(protocol: Protocol): string {
  return PUBLISHED_SETS[protocol];
}
/** lb: port → fwmark of a protocol (bitmap:port with skbinfo). */
export function serviceSet(protocol: Protocol): string {
  return SERVICE_SETS[protocol];
}

const FAMILY_DIGIT: Record<Family, 4 | 6> = { inet: 4, inet6: 6 };

/** Host: who may come in to a restricted port, and where (hash:net,port,net: client, port, local address). */
export function fromSet(family: Family): string {
  return `mesh-from-${FAMILY_DIGIT[family]}`;
}
/** Host: where a restricted port answers (hash:net,port): who comes there and is not in `fromSet` is refused. */
export function atSet(family: Family): string {
  return `mesh-at-${FAMILY_DIGIT[family]}`;
}
/** Host: underlay addresses of the other nodes (hash:ip), which may send VXLAN. */
export function peerSet(family: Family): string {
  return `mesh-peers-${FAMILY_DIGIT[family]}`;
}

/** Names of tc filters of ours are this and what they are for. */
export const FAST_PATH_PREFIX = 'mesh-';
/** `pref` of our tc filters: behind those made by hand with small numbers, before those that tc gives a number (49152). */
export const FAST_PATH_PREFERENCE = 4096;

export const CHAIN_PREFIX = 'MESH-';
/** Host, filter: the administrator's, for packets on their way to a published port. Made when absent, then left alone. */
export const USER_CHAIN = 'MESH-USER';

const PROTOCOL_CLASS: Record<Protocol, number> = { tcp: 1, udp: 2, sctp: 3 };

/** fwmark of a published port: class of the protocol ≪ 16 | port, so 0x11f90 is 8080/tcp on every node. */
export function portMark(protocol: Protocol, published: number): number {
  return (PROTOCOL_CLASS[protocol] << 16) | published;
}

/** The port a fwmark stands for, or undefined when the mark is not one of ours. */
export function markedPort(mark: number): { protocol: Protocol; published: number } | undefined {
  const published = mark & 0xffff;
  for (const [protocol, number] of Object.entries(PROTOCOL_CLASS) as [Protocol, number][]) {
    if (mark >>> 16 === number && published !== 0) return { protocol, published };
  }
  return undefined;
}

/** Deterministic VTEP address of a node: locally administered, "mes", node number. */
export function vtepMac(nodeNumber: number): MacAddress {
  const hex = (byte: number) => byte.toString(16).padStart(2, '0');
  return `02:6d:65:73:${hex(nodeNumber >> 8)}:${hex(nodeNumber & 0xff)}`;
}

/**
 * Fixed places in a node's block: .0 VTEP, .1 host end (source of localhost clients), .2 lb towards the host (DNAT target),
 * .3 lb towards the router, .4 router towards the lb; tasks get the rest.
 */
export const BLOCK_SLOT = { vtep: 0, host: 1, lb: 2, lbNet: 3, router: 4, firstTask: 5 } as const;
/** Gateway every task sees, on its own veth only (RFC 3927 space, never routed). */
export const TASK_GATEWAY = { inet: '169.254.1.1', inet6: 'fe80::1' } as const;
