import type { Result } from '../base/errors.ts';
import type { Family, IpAddress, Protocol } from '../model/address.ts';
import { Attributes, AttributeWriter, LITTLE_ENDIAN } from './attributes.ts';
import { familyName, familyNumber, formatField, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP } from './ip.ts';
import { type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP, NLM_F_REQUEST } from './message.ts';
import { decodeWithHeader } from './rtnetlink.ts';

/** include/uapi/linux/sock_diag.h */
const SOCK_DIAG_BY_FAMILY = 20;
/** struct inet_diag_sockid and struct inet_diag_msg, include/uapi/linux/inet_diag.h */
const SOCKID = 48;
const INET_DIAG_MSG = 72;
const INET_DIAG_REQ_BYTECODE = 1;
/** Operations of that filter: a port of ours, which follows as the `no` of an operation of its own. */
const INET_DIAG_BC_S_GE = 2;
const INET_DIAG_BC_S_LE = 3;
/** struct inet_diag_bc_op */
const BYTECODE_OP = 4;
/** Always there for a socket of IPv6 in LISTEN or CLOSE (inet_diag_msg_attrs_fill). */
const INET_DIAG_SKV6ONLY = 11;

/** enum of include/net/tcp_states.h; UDP uses the first and `close`. */
const STATES = [
  'unknown',
  'established',
  'syn-sent',
  'syn-recv',
  'fin-wait-1',
  'fin-wait-2',
  'time-wait',
  'close',
  'close-wait',
  'last-ack',
  'listen',
  'closing',
  'new-syn-recv',
] as const;
type SocketState = (typeof STATES)[number];

const stateBit = (state: SocketState) => 1 << STATES.indexOf(state);

/**
 * States of listening sockets: of TCP only `listen`, because any other state makes the kernel walk every connection
 * (inet_diag_dump_icsk); of UDP only `close` (ss also requests `listen`, which UDP never has); of SCTP only `listen`, without
 * which its endpoints are not dumped (sctp_diag_dump).
 */
const LISTENER_STATES = {
  tcp: stateBit('listen'),
  udp: stateBit('listen') | stateBit('close'),
  sctp: stateBit('listen'),
} as const;
const PROTOCOLS = { tcp: IPPROTO_TCP, udp: IPPROTO_UDP, sctp: IPPROTO_SCTP } as const;

/** Of the kernel's states all that ss asks for: `new-syn-recv` is listed as `syn-recv`. */
const ALL_STATES = stateBit('new-syn-recv') - 1;
/** UDP sockets have no state of their own for listening. */
const SENDER_STATES = { tcp: ALL_STATES - stateBit('listen'), udp: ALL_STATES } as const;

/** A socket of the netns the netlink socket is in. */
export interface SocketEntry {
  family: Family;
  state: SocketState;
  address: IpAddress;
  port: number;
  uid: number;
  /** As in /proc/PID/fd; 0 when no process holds it. */
  inode: number;
  /** IPV6_V6ONLY; false for a socket of IPv4. */
  v6only: boolean;
}

/**
 * `ss -tn state listening`, `ss -lun`, `ss -Sn state listening`: listening sockets (TCP in LISTEN, UDP bound and not
 * connected, SCTP all endpoints). One dump covers one protocol and one family; an IPv6 socket on `::` usually accepts IPv4 too.
 */
export function dumpListeners(protocol: Protocol, family: Family): NetlinkRequest {
  return dump(requestOf(protocol, family, LISTENER_STATES[protocol]));
}

/**
 * `ss -tn state all exclude listening 'sport >= :FIRST and sport <= :LAST'`, `ss -aun …`: sockets with a local port in that
 * range, of TCP all but the listening ones. The kernel walks every connection and answers with those of the range (inet_diag_bc_run).
 */
export function dumpSenders(
  protocol: 'tcp' | 'udp',
  family: Family,
  { first, last }: { first: number; last: number },
): NetlinkRequest {
  const filter = new AttributeWriter(16);
  const comparisons = [
    { code: INET_DIAG_BC_S_GE, port: first },
    { code: INET_DIAG_BC_S_LE, port: last },
  ];
  for (const [at, { code, port }] of comparisons.entries()) {
    // A jump over the end, and not to it, is what rejects a socket.
    const rest = 2 * BYTECODE_OP * (comparisons.length - at);
    filter
      .u8(code)
      .u8(2 * BYTECODE_OP)
      .u16(rest + BYTECODE_OP);
    filter.zeros(2).u16(port);
  }
  const request = requestOf(protocol, family, SENDER_STATES[protocol]);
  return dump(request.put(INET_DIAG_REQ_BYTECODE, filter.finish()));
}

/** struct inet_diag_req_v2 */
function requestOf(protocol: Protocol, family: Family, states: number): AttributeWriter {
  const writer = new AttributeWriter(128).u8(familyNumber(family)).u8(PROTOCOLS[protocol]);
  return writer.zeros(2).u32(states).zeros(SOCKID);
}

function dump(request: AttributeWriter): NetlinkRequest {
  return { type: SOCK_DIAG_BY_FAMILY, flags: NLM_F_REQUEST | NLM_F_DUMP, payload: request.finish() };
}

/** Reads replies to these requests; the protocol is the requested one. */
export function decodeSocket(message: NetlinkMessage): Result<SocketEntry> {
  return decodeWithHeader('socket', [SOCK_DIAG_BY_FAMILY], INET_DIAG_MSG, message, (view, payload) => {
    const family = familyName(view.getUint8(0));
    return {
      family,
      state: STATES[view.getUint8(1)] ?? 'unknown',
      address: formatField(payload.subarray(8, 24), family),
      port: view.getUint16(4),
      uid: view.getUint32(64, LITTLE_ENDIAN),
      inode: view.getUint32(68, LITTLE_ENDIAN),
      v6only: new Attributes(payload, INET_DIAG_MSG).u8(INET_DIAG_SKV6ONLY) === 1,
    };
  });
}
