import { add, call, exit, jump, jumpIf, jumpIf64, type Line, label, load, mov, type Register } from './assembler.ts';

/*
 * What all programs share: offsets of fields in a packet, and the first and last instructions. r6 is the skb, r7 the
 * start of the Ethernet frame, r8 the end of the directly readable data.
 */

/** struct __sk_buff, include/uapi/linux/bpf.h */
export const SKB = {
  length: 0,
  mark: 8,
  protocol: 16,
  ingressIfindex: 36,
  data: 76,
  dataEnd: 80,
  gsoSize: 176,
} as const;

const ETHERNET = 14;
/** From the start of the frame to the fields of an IPv4 header without options. */
export const IP = {
  start: ETHERNET,
  tos: ETHERNET + 1,
  length: ETHERNET + 2,
  fragment: ETHERNET + 6,
  protocol: ETHERNET + 9,
  source: ETHERNET + 12,
  destination: ETHERNET + 16,
  end: ETHERNET + 20,
} as const;
/** TCP and UDP have their ports at the same place. */
export const L4 = {
  sourcePort: IP.end,
  destinationPort: IP.end + 2,
  tcpFlags: IP.end + 13,
  tcpChecksum: IP.end + 16,
} as const;

/** include/uapi/linux/in.h */
export const IPPROTO = { icmp: 1, tcp: 6, udp: 17 } as const;
/** Version 4, header of five words. */
const IP_WITHOUT_OPTIONS = 0x45;
/** Flags of a TCP header. */
export const TCP = { fin: 0x01, begin: 0x02, reset: 0x04, end: 0x01 | 0x04 } as const;

/** include/uapi/linux/icmp.h: the types that quote the original packet. */
const ICMP_ERRORS = { unreachable: 3, timeExceeded: 11, parameterProblem: 12 } as const;
const ICMP_HEADER = 8;
/** Distance from the fields of the outer IP header to those of the quoted one. */
export const QUOTED_OFFSET = IP.end + ICMP_HEADER - IP.start;
/** Distance from the fields of the outer IP header to those of one in VXLAN: IPv4, UDP, VXLAN, Ethernet. */
export const INNER_OFFSET = 20 + 8 + 8 + ETHERNET;

export const ETH_P_IP = 0x0800;
/** IP_MF | IP_OFFSET, include/net/ip.h */
const FRAGMENT = 0x3fff;
/** IP_OFFSET: later fragments have no ports. */
const FRAGMENT_OFFSET = 0x1fff;
/** Ports and the rest of a UDP header; all programs handle IP packets with at least as much behind the header. */
const L4_MIN_LENGTH = 8;

/**
 * TC_ACT_UNSPEC, include/uapi/linux/pkt_cls.h: the packet takes the standard path. Unlike TC_ACT_OK it continues with the
 * next filters (cls_bpf_classify), so that filters of other programs still see the packets that ours do not handle.
 */
const TC_ACT_UNSPEC = -1;

/** A number as a program reads it from two bytes of a packet: network order as a little-endian number. */
export function swapBytes16(value: number): number {
  return ((value & 0xff) << 8) | (value >> 8);
}

/** Bytes of a packet that programs read at most: up to the ports of the packet inside a VXLAN datagram. */
export const HEADERS_LENGTH = INNER_OFFSET + IP.end + L4_MIN_LENGTH;

/** Continues with an unfragmented IPv4 packet without options, else jumps to `pass`. Clobbers r2. */
export function parseIpv4(): Line[] {
  return [
    mov('r6', 'r1'),
    load('u32', 'r2', ['r6', SKB.protocol]),
    jumpIf('r2', '!=', swapBytes16(ETH_P_IP), 'pass'),
    ...loadDataPointers(),
    ...checkBounds(IP.end + L4_MIN_LENGTH, 'pull'),
    label('pulled'),
    ...checkIpv4Header(),
  ];
}

/**
 * Jumps to `pass` if the IPv4 header has options or belongs to a fragment; `at` is its distance from the packet's own
 * header, `fragment` the bits that mark a fragment. Clobbers r2.
 */
export function checkIpv4Header(at = 0, fragment = FRAGMENT): Line[] {
  return [
    load('u8', 'r2', ['r7', at + IP.start]),
    jumpIf('r2', '!=', IP_WITHOUT_OPTIONS, 'pass'),
    load('u16', 'r2', ['r7', at + IP.fragment]),
    jumpIf('r2', '&', swapBytes16(fragment), 'pass'),
  ];
}

function loadDataPointers(): Line[] {
  return [load('u32', 'r7', ['r6', SKB.data]), load('u32', 'r8', ['r6', SKB.dataEnd])];
}

/** Jumps unless that many bytes of the frame are directly readable. Clobbers r2. */
export function checkBounds(bytes: number, elseLabel = 'pass'): Line[] {
  return [mov('r2', 'r7'), add('r2', bytes), jumpIf64('r2', '>', 'r8', elseLabel)];
}

/** Continues with an ICMP error that quotes a packet without options up to its ports, else jumps to `pass`. Clobbers r2. */
export function parseQuotedPacket(): Line[] {
  return [
    load('u8', 'r2', ['r7', IP.end]),
    jumpIf('r2', '==', ICMP_ERRORS.unreachable, 'quotes'),
    jumpIf('r2', '==', ICMP_ERRORS.timeExceeded, 'quotes'),
    jumpIf('r2', '!=', ICMP_ERRORS.parameterProblem, 'pass'),
    label('quotes'),
    // RFC 792: eight bytes of the quoted packet's payload at least, the ports among them.
    ...checkBounds(IP.end + QUOTED_OFFSET + L4_MIN_LENGTH),
    ...checkIpv4Header(QUOTED_OFFSET, FRAGMENT_OFFSET),
  ];
}

/** r3 = protocol, r9 = TCP flags (0 for UDP); jumps to `others` for other protocols. Clobbers r2. */
export function parseTransport(others = 'pass'): Line[] {
  return [
    load('u8', 'r3', ['r7', IP.protocol]),
    mov('r9', 0),
    jumpIf('r3', '==', IPPROTO.udp, 'flags-known'),
    jumpIf('r3', '!=', IPPROTO.tcp, others),
    ...checkBounds(L4.tcpFlags + 1),
    load('u8', 'r9', ['r7', L4.tcpFlags]),
    label('flags-known'),
  ];
}

/** Ends the program and redirects the packet into the netns of that veth's peer. */
export function redirectPeer(link: Register | number): Line[] {
  return [mov('r1', link), mov('r2', 0), call('redirect_peer'), exit()];
}

/**
 * The end of every program. Also pulls headers that the network driver left in pages, as virtio-net does for packets
 * longer than 128 bytes (page_to_skb): if these took the standard path, packets of one flow would take both paths.
 */
export function passToStack(): Line[] {
  return [
    label('pass'),
    mov('r0', TC_ACT_UNSPEC),
    exit(),

    label('pull'),
    load('u32', 'r2', ['r6', SKB.length]),
    jumpIf('r2', '<', HEADERS_LENGTH, 'pull-all'),
    mov('r2', HEADERS_LENGTH),
    label('pull-all'),
    mov('r1', 'r6'),
    call('skb_pull_data'),
    ...loadDataPointers(),
    ...checkBounds(IP.end + L4_MIN_LENGTH),
    jump('pulled'),
  ];
}
