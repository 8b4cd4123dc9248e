import type { IpAddress } from '../model/address.ts';
import { familyOf } from '../model/address.ts';
import { AttributeWriter } from './attributes.ts';
import { familyNumber, IPPROTO_TCP, IPPROTO_UDP, parseAddress } from './ip.ts';
import { type NetlinkRequest, NLM_F_REQUEST } from './message.ts';
import { RTM_GETROUTE } from './rtnetlink.ts';

// include/uapi/linux/rtnetlink.h
const RTA_DST = 1;
const RTA_SRC = 2;
const RTA_IIF = 3;
const RTA_MARK = 16;
const RTA_IP_PROTO = 27;
const RTA_SPORT = 28;
const RTA_DPORT = 29;
/** The answer names the table that had the route; only IPv4 has the flag, IPv6 always does so. */
const RTM_F_LOOKUP_TABLE = 0x1000;

const PROTOCOLS = { tcp: IPPROTO_TCP, udp: IPPROTO_UDP } as const;

/** A packet whose way is asked for. */
export interface RouteQuery {
  destination: IpAddress;
  source?: IpAddress | undefined;
  /** ifindex of the link it arrives on; without it, the host sends it. */
  inputIndex?: number | undefined;
  mark?: number | undefined;
  /** The kernel takes no others here (rtm_getroute_parse_ip_proto). */
  transport?: { protocol: keyof typeof PROTOCOLS; sourcePort: number; destinationPort: number } | undefined;
}

/**
 * `ip route get`: the kernel looks the route up as it would for such a packet, rules and reverse path check included. The
 * answer is one route, for decodeRoute; ENETUNREACH, EHOSTUNREACH, EACCES or EINVAL without a way, EXDEV (or
 * EINVAL, on newer kernels) if the reverse path check drops it.
 */
export function getRoute({ destination, source, inputIndex, mark, transport }: RouteQuery): NetlinkRequest {
  const to = parseAddress(destination);
  const from = source === undefined ? undefined : parseAddress(source);
  const family = familyOf(destination);
  const writer = new AttributeWriter(96)
    .u8(familyNumber(family))
    .u8(8 * to.length)
    .u8(8 * (from?.length ?? 0))
    .zeros(5)
    .u32(family === 'inet' ? RTM_F_LOOKUP_TABLE : 0)
    .put(RTA_DST, to);
  if (from !== undefined) writer.put(RTA_SRC, from);
  if (inputIndex !== undefined) writer.putU32(RTA_IIF, inputIndex);
  if (mark !== undefined) writer.putU32(RTA_MARK, mark);
  if (transport !== undefined) {
    writer.putU8(RTA_IP_PROTO, PROTOCOLS[transport.protocol]);
    writer.putBe16(RTA_SPORT, transport.sourcePort).putBe16(RTA_DPORT, transport.destinationPort);
  }
  return { type: RTM_GETROUTE, flags: NLM_F_REQUEST, payload: writer.finish() };
}
