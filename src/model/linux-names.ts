import type { Family, Protocol } from './address.ts';
import { FIRST_VNI } from './identifiers.ts';

/**
 * Names, marks and numbers of kernel objects, the same on every node. They are the proof of ownership: whatever carries
 * one of them was made by meshd, and nothing else is ever changed or deleted.
 *
 * Plan gives them to objects; they are in the model because kinds, kernel, trace, bpf and the agent recognise those
 * objects by them, and none of these may import plan. Identifiers of the cluster itself are in identifiers.ts.
 */

/** The netns meshd itself runs in. No file name: the kernel driver maps it to /proc/self/ns/net. */
export const HOST_NETNS = 'host';
export const LB_NETNS = 'mesh-lb';
export const NETNS_PREFIX = 'mesh-';

/** The router of an overlay network. */
export function networkNetns(network: string): string {
  return `mesh-net-${network}`;
}

/** The netns of one task. */
export function taskNetns(taskId: string): string {
  return `mesh-task-${taskId}`;
}

/** Veth between host (`mesh0`) and lb netns (`host0`). */
export const HOST_LINK = 'mesh0';
export const LB_HOST_LINK = 'host0';
/** Veth between host (`mesh1`) and the ingress router (`host0`): for packets that the fast path unpacks. */
export const HOST_NET_LINK = 'mesh1';
export const NET_HOST_LINK = 'host0';
/** The host's own ones. */
export const HOST_LINKS: readonly string[] = [HOST_LINK, HOST_NET_LINK];
/** Veth between lb (`net0`) and the ingress router (`lb0`). */
export const LB_NET_LINK = 'net0';
export const NET_LB_LINK = 'lb0';
/** In the router and in the lb: the router's sends to the lbs of other nodes, the lb's to their routers. */
export const VXLAN_LINK = 'vxlan0';
export const TASK_LINK = 'eth0';

/** The router's end of a task's veth; IFNAMSIZ is 16 with the NUL, task ids are 12 characters. */
export function taskVeth(taskId: string): string {
  return `t-${taskId}`;
}

export const VXLAN_PORT = 4789;
/** Of the lbs: frames with it are for the lb of a node, those with a network's VNI for its router. */
export const LB_VNI = FIRST_VNI - 1;

/** rtm_protocol of every route of ours; 109 = 'm', unassigned in include/uapi/linux/rtnetlink.h and iproute2's rt_protos. */
export const ROUTE_PROTOCOL = 109;
/**
 * `ip rule` priorities in the netns of a network: every rule between `first` and `last` is ours. Their purpose
 * is in src/plan/return-rules.ts; `base` + number is the priority of every node's rule in earlier versions.
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
/** Routing table for answers to the node with this number. */
export function returnTable(nodeNumber: number): number {
  return 100_000 + nodeNumber;
}

/**
 * Host: the bits of fwmarks that meshd uses there, for answers of connections to addresses with rules of their own
 * (src/plan/source-routing.ts). Apart from those of kube-proxy (0xc000), Cilium (0xf00 and identities), Tailscale (0xff0000)
 * and the AWS CNI (0x80), and from small numbers that administrators choose.
 */
export const ANSWER_MARKS = { mask: 0x3f00_0000, unit: 0x0100_0000, count: 63 } as const;

export const SET_PREFIX = 'mesh-';
// Constants: otherwise memory would hold one string per port.
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

/** Host: allowed clients of restricted ports (hash:net,port,net: client, port, local address). */
export function fromSet(family: Family): string {
  return `mesh-from-${FAMILY_DIGIT[family]}`;
}
/** Host: where a restricted port answers (hash:net,port): clients there that are not in `fromSet` are rejected. */
export function atSet(family: Family): string {
  return `mesh-at-${FAMILY_DIGIT[family]}`;
}
/** Host: underlay addresses of the other nodes (hash:ip), which may send VXLAN. */
export function peerSet(family: Family): string {
  return `mesh-peers-${FAMILY_DIGIT[family]}`;
}

/** Names of our tc filters are this and the type of their program. */
export const FAST_PATH_PREFIX = 'mesh-';
/** `pref` of our tc filters: after filters with small numbers chosen by hand, before those numbered by tc (from 49152). */
export const FAST_PATH_PREFERENCE = 4096;

/**
 * Mark of a packet to a task that belongs to a flow of the fast path (KNOWN_FLOW in native/bpf/flow.h): no node has such a
 * number. In the other direction, the mark is the number of the node through which the flow arrived.
 */
export const KNOWN_FLOW_MARK = 0x10000;

/** Source ports of clients whose connections the host translates while its fast path does not (native/bpf/host-in.bpf.c). */
export const TRANSLATED_PORTS = { from: 64_512, to: 65_535 } as const;

export const CHAIN_PREFIX = 'MESH-';
/** Host, filter: the administrator's, for packets to published ports. Created when absent, then never changed. */
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

/** Gateway every task sees, on its own veth only (RFC 3927 space, never routed). */
export const TASK_GATEWAY = { inet: '169.254.1.1', inet6: 'fe80::1' } as const;
