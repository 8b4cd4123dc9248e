import type { Result } from '../base/errors.ts';
import type { Family, IpAddress } from '../model/address.ts';
import { Attributes, AttributeWriter, decodeError, NLA_F_NESTED } from './attributes.ts';
import { familyName, familyNumber, formatField, IPPROTO_SCTP, IPPROTO_UDP } from './ip.ts';
import { type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP, NLM_F_REQUEST } from './message.ts';
import { decodeWithHeader } from './rtnetlink.ts';

/** include/uapi/linux/netfilter/nfnetlink.h; the high byte of the message type. */
const NFNL_SUBSYS_CTNETLINK = 1 << 8;
/** sizeof(struct nfgenmsg) */
const NFGENMSG = 4;

// include/uapi/linux/netfilter/nfnetlink_conntrack.h
const NEW = NFNL_SUBSYS_CTNETLINK | 0;
const GET = NFNL_SUBSYS_CTNETLINK | 1;
const DELETE = NFNL_SUBSYS_CTNETLINK | 2;
const CTA_TUPLE_ORIG = 1;
const CTA_TUPLE_REPLY = 2;
const CTA_STATUS = 3;
const CTA_ID = 12;
const CTA_ZONE = 18;
const CTA_FILTER = 25;
const CTA_STATUS_MASK = 26;
const CTA_FILTER_ORIG_FLAGS = 1;
const CTA_FILTER_REPLY_FLAGS = 2;
const CTA_TUPLE_IP = 1;
const CTA_TUPLE_PROTO = 2;
const CTA_TUPLE_ZONE = 3;
const CTA_IP = { inet: { source: 1, destination: 2 }, inet6: { source: 3, destination: 4 } } as const;
const CTA_PROTO_NUM = 1;
const CTA_PROTO_SRC_PORT = 2;
const CTA_PROTO_DST_PORT = 3;
// net/netfilter/nf_internals.h: which parts of a tuple a filter compares
const F_PROTO_NUM = 1 << 3;
const F_PROTO_DST_PORT = 1 << 5;

/** Status bit of entries whose destination was translated; include/uapi/linux/netfilter/nf_conntrack_common.h. */
const IPS_DST_NAT = 1 << 5;

const PROTOCOLS = { udp: IPPROTO_UDP, sctp: IPPROTO_SCTP } as const;
/** Protocols whose entries exist as long as packets arrive. */
export type FlowProtocol = keyof typeof PROTOCOLS;

interface Tuple {
  source: IpAddress;
  destination: IpAddress;
  sourcePort: number;
  destinationPort: number;
}

/** One connection tracking entry. */
export interface Flow {
  family: Family;
  protocol: number;
  /** As the first packet had it. */
  original: Tuple;
  /** As answers are expected: its source is where the packets really go. */
  reply: Tuple;
  /** Not in the plain zone 0, in any direction. */
  zoned: boolean;
  /** Identifies it to the kernel: CTA_TUPLE_ORIG and CTA_ID as received. */
  name: { tuple: Uint8Array; id: Uint8Array };
}

/** Which entries a dump should contain; fields not given match any. */
interface FlowFilter {
  /** The port they were sent to. */
  port?: number | undefined;
  /** Whether their destination was translated. */
  translated?: boolean | undefined;
}

/**
 * `conntrack -L -p PROTO --orig-port-dst PORT`: entries of one family and protocol. Kernels before 5.8 ignore the filter of
 * protocol and port, those before 5.18 that of translation, and list more: filter the result.
 */
export function dumpFlows(
  family: Family,
  protocol: FlowProtocol,
  { port, translated }: FlowFilter = {},
): NetlinkRequest {
  const writer = new AttributeWriter(112).u8(familyNumber(family)).u8(0).be16(0);
  writer.nested(CTA_TUPLE_ORIG | NLA_F_NESTED, () => {
    writer.nested(CTA_TUPLE_PROTO | NLA_F_NESTED, () => {
      writer.putU8(CTA_PROTO_NUM, PROTOCOLS[protocol]);
      if (port !== undefined) writer.putBe16(CTA_PROTO_DST_PORT, port);
    });
  });
  if (translated !== undefined) {
    writer.putBe32(CTA_STATUS, translated ? IPS_DST_NAT : 0).putBe32(CTA_STATUS_MASK, IPS_DST_NAT);
  }
  writer.nested(CTA_FILTER | NLA_F_NESTED, () => {
    writer.putU32(CTA_FILTER_ORIG_FLAGS, F_PROTO_NUM | (port === undefined ? 0 : F_PROTO_DST_PORT));
    writer.putU32(CTA_FILTER_REPLY_FLAGS, 0);
  });
  return { type: GET, flags: NLM_F_REQUEST | NLM_F_DUMP, payload: writer.finish() };
}

/** `conntrack -D` of exactly this entry: ENOENT when it no longer exists, also if another has replaced it. */
export function deleteFlow({ family, name }: Pick<Flow, 'family' | 'name'>): NetlinkRequest {
  const writer = new AttributeWriter(128).u8(familyNumber(family)).u8(0).be16(0);
  writer.put(CTA_TUPLE_ORIG | NLA_F_NESTED, name.tuple).put(CTA_ID, name.id);
  return { type: DELETE, flags: NLM_F_REQUEST, payload: writer.finish() };
}

/** Reads the answers to dumpFlows; an error for protocols without ports. */
export function decodeFlow(message: NetlinkMessage): Result<Flow> {
  return decodeWithHeader('conntrack entry', [NEW], NFGENMSG, message, (view, payload) => {
    const family = familyName(view.getUint8(0));
    const attributes = new Attributes(payload, NFGENMSG);
    const original = readTuple(attributes, CTA_TUPLE_ORIG, family);
    const reply = readTuple(attributes, CTA_TUPLE_REPLY, family);
    return {
      family,
      protocol: original.protocol,
      original: original.tuple,
      reply: reply.tuple,
      zoned: (attributes.be16(CTA_ZONE) ?? 0) !== 0 || original.zoned || reply.zoned,
      name: { tuple: attributes.bytes(CTA_TUPLE_ORIG)!, id: attributes.bytes(CTA_ID) ?? missingAttribute('its id') },
    };
  });
}

/** IPPROTO_UDP or IPPROTO_SCTP. */
export function flowProtocolNumber(protocol: FlowProtocol): number {
  return PROTOCOLS[protocol];
}

function readTuple(attributes: Attributes, type: number, family: Family) {
  const nest = attributes.nested(type) ?? missingAttribute('a tuple');
  const ip = nest.nested(CTA_TUPLE_IP) ?? missingAttribute('its addresses');
  const proto = nest.nested(CTA_TUPLE_PROTO) ?? missingAttribute('its protocol');
  const address = (where: 'source' | 'destination') =>
    formatField(ip.bytes(CTA_IP[family][where]) ?? missingAttribute(where), family);
  const tuple: Tuple = {
    source: address('source'),
    destination: address('destination'),
    sourcePort: proto.be16(CTA_PROTO_SRC_PORT) ?? missingAttribute('ports'),
    destinationPort: proto.be16(CTA_PROTO_DST_PORT) ?? missingAttribute('ports'),
  };
  const protocol = proto.u8(CTA_PROTO_NUM) ?? missingAttribute('its protocol');
  return { tuple, protocol, zoned: (nest.be16(CTA_TUPLE_ZONE) ?? 0) !== 0 };
}

function missingAttribute(what: string): never {
  throw decodeError(`without ${what}`);
}
