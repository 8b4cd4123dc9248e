import { LB_VNI } from '../model/linux-names.ts';
import { and, call, jumpIf, jumpIf64, type Line, label, load, lookUp, mov, store, swap16 } from './assembler.ts';
import {
  checkBounds,
  checkIpv4Header,
  ETH_P_IP,
  HEADERS_LENGTH,
  INNER_OFFSET,
  IP,
  IPPROTO,
  redirectPeer,
  SKB,
  swapBytes16,
} from './packet.ts';

/** From the start of the frame (RFC 7348, and draft-smith-vxlan-group-policy for the first two bytes). */
const VXLAN = {
  flags: IP.end + 8,
  policy: IP.end + 10,
  /** Three bytes, and one that is 0. */
  vni: IP.end + 12,
  /** The last two bytes of the inner frame's destination: the node's number, in network order (vtepMac). */
  number: INNER_OFFSET + 4,
  etherType: INNER_OFFSET + 12,
} as const;

/** The two bytes at `flags`: the VNI is present, and a group policy too. */
const WITH_VNI = 0x0008;
const WITH_POLICY = 0x0088;
/** The two lower bits of an IP header's TOS: congestion experienced (RFC 3168). */
const ECN_CE = 3;
/** Only TCP packets up to this length are handled: longer ones profit from GRO in vxlan0. */
const MAX_SHORT_PACKET = 256;
/** BPF_ADJ_ROOM_MAC, include/uapi/linux/bpf.h: between Ethernet and IP header. */
const BPF_ADJ_ROOM_MAC = 1;
/** Mark of packets to the lb: no port has it, but it is not 0, so that the lb's chain does not look for a port. */
const NO_PORT_MARK = 1;

/** Destinations of decapsulated packets: ifindexes of links of the host whose peers are in the lb and in the router. */
export interface DecapsulationConfig {
  /** The node's number. */
  number: number;
  lb: number;
  router: number;
  /** The router's. */
  vni: number;
}

/**
 * A datagram to VXLAN's port. If another node sent it to a VTEP of this node, it is decapsulated and redirected into the
 * lb or the router, with the mark that the VXLAN device would set (vxlan_rcv in drivers/net/vxlan), bypassing that device
 * and the host's netfilter, routing and UDP. Left to the device: segments that GRO has merged or can merge, families and
 * protocols without a fast path, congestion marks. The outer checksum is not verified, as RFC 7348 permits; the task or
 * client verifies the inner ones.
 */
export function decapsulateVxlan({ number, lb, router, vni }: DecapsulationConfig): Line[] {
  const peer = -4;
  return [
    load('u32', 'r2', ['r6', SKB.gsoSize]),
    jumpIf('r2', '!=', 0, 'pass'),
    ...checkBounds(HEADERS_LENGTH),
    load('u8', 'r2', ['r7', IP.tos]),
    and('r2', ECN_CE),
    jumpIf('r2', '==', ECN_CE, 'pass'),
    load('u16', 'r2', ['r7', VXLAN.number]),
    jumpIf('r2', '!=', swapBytes16(number), 'pass'),
    load('u16', 'r2', ['r7', VXLAN.etherType]),
    jumpIf('r2', '!=', swapBytes16(ETH_P_IP), 'pass'),
    ...checkIpv4Header(INNER_OFFSET),
    load('u8', 'r2', ['r7', INNER_OFFSET + IP.protocol]),
    jumpIf('r2', '==', IPPROTO.udp, 'short'),
    jumpIf('r2', '!=', IPPROTO.tcp, 'pass'),
    load('u16', 'r2', ['r7', INNER_OFFSET + IP.length]),
    swap16('r2'),
    jumpIf('r2', '>', MAX_SHORT_PACKET, 'pass'),
    label('short'),

    load('u16', 'r2', ['r7', VXLAN.flags]),
    mov('r8', 0),
    jumpIf('r2', '==', WITH_VNI, 'marked'),
    jumpIf('r2', '!=', WITH_POLICY, 'pass'),
    load('u16', 'r8', ['r7', VXLAN.policy]),
    swap16('r8'),
    label('marked'),
    load('u32', 'r2', ['r7', VXLAN.vni]),
    mov('r9', router),
    jumpIf('r2', '==', vniWord(vni), 'to-router'),
    jumpIf('r2', '!=', vniWord(LB_VNI), 'pass'),
    mov('r9', lb),
    mov('r8', NO_PORT_MARK),

    label('to-router'),
    load('u32', 'r2', ['r7', IP.source]),
    store('u32', ['r10', peer], 'r2'),
    ...lookUp('mesh_peers', peer),
    jumpIf64('r0', '==', 0, 'pass'),
    mov('r1', 'r6'),
    mov('r2', -INNER_OFFSET),
    mov('r3', BPF_ADJ_ROOM_MAC),
    mov('r4', 0),
    call('skb_adjust_room'),
    jumpIf64('r0', '!=', 0, 'pass'),
    store('u32', ['r6', SKB.mark], 'r8'),
    ...redirectPeer('r9'),
  ];
}

/** A VNI as a program reads it, with the reserved byte after it. */
function vniWord(vni: number): number {
  return swapBytes16(vni >>> 8) | ((vni & 0xff) << 16);
}
