import type { IpAddress, Protocol } from '../model/address.ts';
import { type Attributes, type AttributeWriter, encodeError, NLA_F_NESTED, NLA_F_NET_BYTEORDER } from './attributes.ts';
import { checkPrefix, formatAddress, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, parseAddress } from './ip.ts';

// CADT and ADT attributes, include/uapi/linux/netfilter/ipset/ip_set.h
const ATTR_IP = 1;
const ATTR_CIDR = 3;
export const ATTR_PORT = 4;
const ATTR_PROTO = 7;
const ATTR_CADT_FLAGS = 8;
export const ATTR_LINENO = 9;
const ATTR_IP2 = 20;
const ATTR_CIDR2 = 21;
const ATTR_SKBMARK = 27;
const IPADDR_IPV4 = 1;
const IPADDR_IPV6 = 2;
const FLAG_NOMATCH = 4;

/** One element; which fields it has depends on the set's type (`hash:ip,port` has address, protocol and port). */
export interface SetEntry {
  address?: IpAddress | undefined;
  /** Prefix length, in net types; the whole address when not given. */
  prefix?: number | undefined;
  /** Second network of hash:net,net and hash:net,port,net. */
  address2?: IpAddress | undefined;
  prefix2?: number | undefined;
  /** In types with a protocol; a name or the number. */
  protocol?: Protocol | number | undefined;
  port?: number | undefined;
  /** What SET --map-mark gives the packet, in sets with skbinfo. */
  skbMark?: { mark: number; mask: number } | undefined;
  /** The entry is an exception (net types). */
  noMatch?: boolean | undefined;
}

const PROTOCOL_NUMBERS: Record<Protocol, number> = { tcp: IPPROTO_TCP, udp: IPPROTO_UDP, sctp: IPPROTO_SCTP };
const PROTOCOL_NAMES = new Map(Object.entries(PROTOCOL_NUMBERS).map(([name, number]) => [number, name as Protocol]));

/** The kernel wants every number in ipset attributes big endian and marked so (ip_set.h ip_set_attr_netorder). */
export function putNet32(writer: AttributeWriter, type: number, value: number): void {
  writer.putBe32(type | NLA_F_NET_BYTEORDER, value);
}

/** As putNet32, 16 bit wide. */
export function putNet16(writer: AttributeWriter, type: number, value: number): void {
  writer.putBe16(type | NLA_F_NET_BYTEORDER, value);
}

function putIp(writer: AttributeWriter, type: number, address: IpAddress): Uint8Array {
  const bytes = parseAddress(address);
  writer.nested(type | NLA_F_NESTED, () => {
    writer.put((bytes.length === 4 ? IPADDR_IPV4 : IPADDR_IPV6) | NLA_F_NET_BYTEORDER, bytes);
  });
  return bytes;
}

function putCidr(writer: AttributeWriter, type: number, prefix: number | undefined, bytes: Uint8Array): void {
  if (prefix === undefined) return;
  checkPrefix(prefix, bytes);
  if (prefix === 0) throw encodeError('prefix length 0 in an ipset: add both halves (0.0.0.0/1 and 128.0.0.0/1)');
  writer.putU8(type, prefix);
}

/** The attributes of one element, for IPSET_ATTR_DATA. `line` is returned in the error of a batch. */
export function writeEntry(writer: AttributeWriter, entry: SetEntry, line: number | undefined): void {
  if (entry.address !== undefined) putCidr(writer, ATTR_CIDR, entry.prefix, putIp(writer, ATTR_IP, entry.address));
  if (entry.port !== undefined) putNet16(writer, ATTR_PORT, entry.port);
  if (entry.protocol !== undefined) {
    writer.putU8(ATTR_PROTO, typeof entry.protocol === 'number' ? entry.protocol : PROTOCOL_NUMBERS[entry.protocol]);
  }
  if (entry.noMatch === true) putNet32(writer, ATTR_CADT_FLAGS, FLAG_NOMATCH);
  if (entry.address2 !== undefined) putCidr(writer, ATTR_CIDR2, entry.prefix2, putIp(writer, ATTR_IP2, entry.address2));
  if (entry.skbMark !== undefined) {
    const { mark, mask } = entry.skbMark;
    writer.nested(ATTR_SKBMARK | NLA_F_NET_BYTEORDER, () => writer.be32(mark).be32(mask));
  }
  if (line !== undefined) putNet32(writer, ATTR_LINENO, line);
}

function readIp(attributes: Attributes, type: number): IpAddress | undefined {
  const nest = attributes.nested(type);
  const bytes = nest?.bytes(IPADDR_IPV4) ?? nest?.bytes(IPADDR_IPV6);
  return bytes === undefined ? undefined : formatAddress(bytes);
}

/** One element of a listing; timeouts, comments and counters are left out. */
export function readEntry(attributes: Attributes): SetEntry {
  const entry: SetEntry = {};
  const address = readIp(attributes, ATTR_IP);
  if (address !== undefined) entry.address = address;
  const prefix = attributes.u8(ATTR_CIDR);
  if (prefix !== undefined) entry.prefix = prefix;
  const address2 = readIp(attributes, ATTR_IP2);
  if (address2 !== undefined) entry.address2 = address2;
  const prefix2 = attributes.u8(ATTR_CIDR2);
  if (prefix2 !== undefined) entry.prefix2 = prefix2;
  const protocol = attributes.u8(ATTR_PROTO);
  if (protocol !== undefined) entry.protocol = PROTOCOL_NAMES.get(protocol) ?? protocol;
  const port = attributes.be16(ATTR_PORT);
  if (port !== undefined) entry.port = port;
  if (((attributes.be32(ATTR_CADT_FLAGS) ?? 0) & FLAG_NOMATCH) !== 0) entry.noMatch = true;
  const mark = attributes.bytes(ATTR_SKBMARK);
  if (mark !== undefined && mark.length >= 8) {
    const view = new DataView(mark.buffer, mark.byteOffset, mark.byteLength);
    entry.skbMark = { mark: view.getUint32(0), mask: view.getUint32(4) };
  }
  return entry;
}
