import type { Result } from '../base/errors.ts';
import type { Family, IpAddress, MacAddress } from '../model/address.ts';
import { Attributes, decodeError, LITTLE_ENDIAN } from './attributes.ts';
import {
  AF_BRIDGE,
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  familyName,
  familyNumber,
  formatAddress,
  formatMac,
  parseAddress,
  parseMac,
} from './ip.ts';
import {
  type CreateMode,
  createFlags,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_DUMP,
  NLM_F_REQUEST,
} from './message.ts';
import { decodeWithHeader, RTM_DELNEIGH, RTM_GETNEIGH, RTM_NEWNEIGH, writeNdmsg } from './rtnetlink.ts';

// include/uapi/linux/neighbour.h
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NDA_PORT = 6;
const NDA_VNI = 7;
const NDA_IFINDEX = 8;
const NDA_MASTER = 9;
const NUD_NOARP = 0x40;
const NUD_PERMANENT = 0x80;
const NTF_SELF = 0x02;
/** sizeof(struct ndmsg) */
const NDMSG = 12;

export interface NeighbourSpec {
  /** ifindex. */
  index: number;
  address: IpAddress;
  mac: MacAddress;
}

export interface NeighbourEntry {
  index: number;
  family: Family;
  address: IpAddress;
  /** Undefined while unresolved. */
  mac: MacAddress | undefined;
  /** NUD_* */
  state: number;
  permanent: boolean;
}

export interface FdbSpec {
  /** ifindex of the vxlan device. */
  index: number;
  mac: MacAddress;
  /** VTEP to which frames are sent. */
  dst: IpAddress;
  /** UDP port, if it differs from the device's. */
  vni?: number | undefined;
}

export interface FdbRecord {
  index: number;
  mac: MacAddress;
  dst: IpAddress | undefined;
  state: number;
  /** Static (NUD_PERMANENT or NUD_NOARP), not learned. */
  permanent: boolean;
  /** Belongs to the device itself (NTF_SELF), not to a bridge above it. */
  self: boolean;
  /** Only if they differ from the device's. */
  port: number | undefined;
  vni: number | undefined;
  master: number | undefined;
}

/** `ip neighbour add … nud permanent`. */
export function newNeighbour(neighbour: NeighbourSpec, mode: CreateMode = 'create'): NetlinkRequest {
  const address = parseAddress(neighbour.address);
  const writer = writeNdmsg(address.length === 4 ? AF_INET : AF_INET6, neighbour.index, NUD_PERMANENT, 0);
  const payload = writer.put(NDA_DST, address).put(NDA_LLADDR, parseMac(neighbour.mac)).finish();
  return { type: RTM_NEWNEIGH, flags: createFlags(mode), payload };
}

/** `ip neighbour del`. */
export function deleteNeighbour(neighbour: { index: number; address: IpAddress }): NetlinkRequest {
  const address = parseAddress(neighbour.address);
  const writer = writeNdmsg(address.length === 4 ? AF_INET : AF_INET6, neighbour.index, NUD_PERMANENT, 0);
  return { type: RTM_DELNEIGH, flags: NLM_F_REQUEST, payload: writer.put(NDA_DST, address).finish() };
}

/** `ip neighbour show [dev]`; the filter by device needs strict checking on the socket. */
export function dumpNeighbours(filter: { family?: Family; index?: number } = {}): NetlinkRequest {
  const writer = writeNdmsg(filter.family === undefined ? AF_UNSPEC : familyNumber(filter.family), 0, 0, 0);
  if (filter.index !== undefined) writer.putU32(NDA_IFINDEX, filter.index);
  return { type: RTM_GETNEIGH, flags: NLM_F_REQUEST | NLM_F_DUMP, payload: writer.finish() };
}

/** Reads RTM_NEWNEIGH and RTM_DELNEIGH of IPv4 and IPv6; FDB entries are errors here (see isFdb). */
export function decodeNeighbour(message: NetlinkMessage): Result<NeighbourEntry> {
  return decodeWithHeader('neighbour', [RTM_NEWNEIGH, RTM_DELNEIGH], NDMSG, message, (view, payload) => {
    const attributes = new Attributes(payload, NDMSG);
    const address = attributes.bytes(NDA_DST);
    if (address === undefined) throw decodeError('missing address');
    const mac = attributes.bytes(NDA_LLADDR);
    const state = view.getUint16(8, LITTLE_ENDIAN);
    return {
      index: view.getInt32(4, LITTLE_ENDIAN),
      family: familyName(view.getUint8(0)),
      address: formatAddress(address),
      mac: mac === undefined ? undefined : formatMac(mac),
      state,
      permanent: (state & NUD_PERMANENT) !== 0,
    };
  });
}

/** Whether a neighbour message is about a forwarding table: notifications of both share the multicast group. */
export function isFdb(message: NetlinkMessage): boolean {
  return (message.type === RTM_NEWNEIGH || message.type === RTM_DELNEIGH) && message.payload[0] === AF_BRIDGE;
}

/** `bridge fdb add|replace|append … dst …` (self permanent). A second `append` adds a destination, `replace` keeps one. */
export function newFdb(entry: FdbSpec, mode: CreateMode = 'create'): NetlinkRequest {
  const writer = writeNdmsg(AF_BRIDGE, entry.index, NUD_PERMANENT | NUD_NOARP, NTF_SELF);
  writer.put(NDA_LLADDR, parseMac(entry.mac)).put(NDA_DST, parseAddress(entry.dst));
  if (entry.vni !== undefined) writer.putU32(NDA_VNI, entry.vni);
  return { type: RTM_NEWNEIGH, flags: createFlags(mode), payload: writer.finish() };
}

/** `bridge fdb del`; without `dst` all destinations of the MAC address are removed. */
export function deleteFdb(entry: { index: number; mac: MacAddress; dst?: IpAddress | undefined }): NetlinkRequest {
  const writer = writeNdmsg(AF_BRIDGE, entry.index, NUD_PERMANENT | NUD_NOARP, NTF_SELF);
  writer.put(NDA_LLADDR, parseMac(entry.mac));
  if (entry.dst !== undefined) writer.put(NDA_DST, parseAddress(entry.dst));
  return { type: RTM_DELNEIGH, flags: NLM_F_REQUEST, payload: writer.finish() };
}

/** `bridge fdb show [dev]`; the filter by device needs strict checking on the socket. */
export function dumpFdb(filter: { index?: number } = {}): NetlinkRequest {
  const payload = writeNdmsg(AF_BRIDGE, filter.index ?? 0, 0, 0).finish();
  return { type: RTM_GETNEIGH, flags: NLM_F_REQUEST | NLM_F_DUMP, payload };
}

/** Reads RTM_NEWNEIGH and RTM_DELNEIGH of AF_BRIDGE. */
export function decodeFdb(message: NetlinkMessage): Result<FdbRecord> {
  return decodeWithHeader('fdb', [RTM_NEWNEIGH, RTM_DELNEIGH], NDMSG, message, (view, payload) => {
    if (view.getUint8(0) !== AF_BRIDGE) throw decodeError(`address family ${view.getUint8(0)}`);
    const attributes = new Attributes(payload, NDMSG);
    const dst = attributes.bytes(NDA_DST);
    const state = view.getUint16(8, LITTLE_ENDIAN);
    return {
      index: view.getInt32(4, LITTLE_ENDIAN),
      mac: formatMac(attributes.bytes(NDA_LLADDR) ?? new Uint8Array(0)),
      dst: dst === undefined ? undefined : formatAddress(dst),
      state,
      permanent: (state & (NUD_PERMANENT | NUD_NOARP)) !== 0,
      self: (view.getUint8(10) & NTF_SELF) !== 0,
      port: attributes.be16(NDA_PORT),
      vni: attributes.u32(NDA_VNI),
      master: attributes.u32(NDA_MASTER),
    };
  });
}
