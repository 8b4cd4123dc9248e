import type { Result } from '../base/errors.ts';
import type { Cidr, Family, IpAddress } from '../model/address.ts';
import { isLinkLocal } from '../model/block.ts';
import { Attributes, AttributeWriter, encodeError, LITTLE_ENDIAN } from './attributes.ts';
import { AF_UNSPEC, familyName, familyNumber, formatAddress, parseAddress, parseCidr } from './ip.ts';
import {
  type CreateMode,
  createFlags,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_DUMP,
  NLM_F_REQUEST,
} from './message.ts';
import { decodeWithHeader, RTM_DELROUTE, RTM_GETROUTE, RTM_NEWROUTE } from './rtnetlink.ts';

// include/uapi/linux/rtnetlink.h
const RTA_DST = 1;
const RTA_SRC = 2;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_METRICS = 8;
const RTA_MULTIPATH = 9;
const RTA_TABLE = 15;
const RTA_VIA = 18;
const RTNH_F_ONLINK = 4;
/** A clone of the routing cache, not an entry of a table. */
const RTM_F_CLONED = 0x200;
/** Answer with the entry of the table (Linux 4.13, 4.15 for IPv6), without path MTUs learned from ICMP. */
const RTM_F_FIB_MATCH = 0x2000;
/** Of RTA_METRICS. */
const RTAX_MTU = 2;
/** sizeof(struct rtmsg), sizeof(struct rtnexthop) */
const RTMSG = 12;
const RTNEXTHOP = 8;

const RT_TABLE_MAIN = 254;
export const RT_TABLE_LOCAL = 255;
const RTPROT_BOOT = 3;

const TYPES = [
  'unspec',
  'unicast',
  'local',
  'broadcast',
  'anycast',
  'multicast',
  'blackhole',
  'unreachable',
  'prohibit',
  'throw',
] as const;
type RouteType = (typeof TYPES)[number];
const SCOPES = { global: 0, site: 200, link: 253, host: 254, nowhere: 255 } as const;
type RouteScope = keyof typeof SCOPES;

export interface RouteSpec {
  /** `0.0.0.0/0` and `::/0` for default. */
  destination: Cidr;
  type?: RouteType | undefined;
  /** If absent: 255 (local) for local routes, else 254 (main). */
  table?: number | undefined;
  /** rtm_protocol: the program that created the route. */
  protocol?: number | undefined;
  /**
   * If absent, the same default as `ip route`: host for local routes, link without a gateway, else global. IPv6 has no
   * scopes: the kernel ignores it and lists global.
   */
  scope?: RouteScope | undefined;
  /** ifindex. */
  index?: number | undefined;
  via?: IpAddress | undefined;
  onlink?: boolean | undefined;
  /** Preferred source address. */
  source?: IpAddress | undefined;
  /** Metric; the default of IPv6 is 1024. */
  priority?: number | undefined;
}

export interface RouteEntry {
  family: Family;
  destination: Cidr;
  type: RouteType | number;
  table: number;
  protocol: number;
  scope: RouteScope | number;
  /** Of the first next hop when there are several. */
  index: number | undefined;
  via: IpAddress | undefined;
  onlink: boolean;
  source: IpAddress | undefined;
  priority: number | undefined;
  /** Configured MTU of the route, bytes; undefined for that of its link. */
  mtu: number | undefined;
  /** Number of next hops; more than 1 is a multipath route, which meshd never creates. */
  nextHops: number;
  /** Entry of the route cache. */
  cloned: boolean;
}

function writeRoute(route: RouteSpec, scope: number, protocol: number, type: number): AttributeWriter {
  const { family, bytes, prefix } = parseCidr(route.destination);
  const table = route.table ?? (route.type === 'local' ? RT_TABLE_LOCAL : RT_TABLE_MAIN);
  const writer = new AttributeWriter(96).u8(familyNumber(family)).u8(prefix).zeros(2);
  writer
    .u8(table < 256 ? table : 0)
    .u8(protocol)
    .u8(scope)
    .u8(type)
    .u32(route.onlink === true ? RTNH_F_ONLINK : 0);
  if (prefix > 0 || family === 'inet6') writer.put(RTA_DST, bytes);
  if (route.via !== undefined) {
    const via = parseAddress(route.via);
    if (via.length === bytes.length) writer.put(RTA_GATEWAY, via);
    else if (bytes.length === 16) throw encodeError(`IPv4 gateway ${route.via} of an IPv6 route`);
    else writer.put(RTA_VIA, viaOtherFamily(via));
  }
  if (route.source !== undefined) {
    const source = parseAddress(route.source);
    if (source.length !== bytes.length) throw encodeError(`source ${route.source} of route ${route.destination}`);
    writer.put(RTA_PREFSRC, source);
  }
  if (table > 255) writer.putU32(RTA_TABLE, table);
  if (route.priority !== undefined) writer.putU32(RTA_PRIORITY, route.priority);
  if (route.index !== undefined) writer.putU32(RTA_OIF, route.index);
  return writer;
}

/** struct rtvia: family in machine order, then the address. */
function viaOtherFamily(via: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(2 + via.length);
  new DataView(bytes.buffer).setUint16(0, familyNumber('inet6'), LITTLE_ENDIAN);
  bytes.set(via, 2);
  return bytes;
}

function scopeOf(route: RouteSpec): number {
  if (route.scope !== undefined) return SCOPES[route.scope];
  if (route.destination.includes(':')) return SCOPES.global;
  if (route.type === 'local') return SCOPES.host;
  return route.via === undefined ? SCOPES.link : SCOPES.global;
}

/** `ip route add|replace|append`. */
export function newRoute(route: RouteSpec, mode: CreateMode = 'create'): NetlinkRequest {
  const type = TYPES.indexOf(route.type ?? 'unicast');
  const payload = writeRoute(route, scopeOf(route), route.protocol ?? RTPROT_BOOT, type).finish();
  return { type: RTM_NEWROUTE, flags: createFlags(mode), payload };
}

/** `ip route del`: absent fields match anything, so specify at least destination, table and protocol. */
export function deleteRoute(route: RouteSpec): NetlinkRequest {
  const type = route.type === undefined ? 0 : TYPES.indexOf(route.type);
  const scope = route.scope === undefined ? SCOPES.nowhere : SCOPES[route.scope];
  const payload = writeRoute(route, scope, route.protocol ?? 0, type).finish();
  return { type: RTM_DELROUTE, flags: NLM_F_REQUEST, payload };
}

/** `ip route show table … proto … dev …`; filters need strict checking on the socket. A table that does not exist is ENOENT. */
export function dumpRoutes(
  filter: { family?: Family; table?: number; protocol?: number; index?: number } = {},
): NetlinkRequest {
  const family = filter.family === undefined ? AF_UNSPEC : familyNumber(filter.family);
  const table = filter.table ?? 0;
  const writer = new AttributeWriter(48)
    .u8(family)
    .zeros(3)
    .u8(table < 256 ? table : 0)
    .u8(filter.protocol ?? 0)
    .zeros(6);
  if (table > 255) writer.putU32(RTA_TABLE, table);
  if (filter.index !== undefined) writer.putU32(RTA_OIF, filter.index);
  return { type: RTM_GETROUTE, flags: NLM_F_REQUEST | NLM_F_DUMP, payload: writer.finish() };
}

/**
 * `ip route get fibmatch DESTINATION from SOURCE`: answers one RTM_NEWROUTE, the entry that packets between these
 * addresses take by all rules and tables; ENETUNREACH without one, EINVAL when the host does not have an IPv4 source.
 */
export function getRoute({ source, destination }: { source: IpAddress; destination: IpAddress }): NetlinkRequest {
  const to = parseAddress(destination);
  const from = parseAddress(source);
  const bits = to.length * 8;
  const writer = new AttributeWriter(64)
    .u8(familyNumber(to.length === 4 ? 'inet' : 'inet6'))
    .u8(bits)
    .u8(bits)
    .zeros(5)
    .u32(RTM_F_FIB_MATCH);
  return {
    type: RTM_GETROUTE,
    flags: NLM_F_REQUEST,
    payload: writer.put(RTA_DST, to).put(RTA_SRC, from).finish(),
  };
}

/** Reads RTM_NEWROUTE and RTM_DELROUTE of IPv4 and IPv6; other families (MPLS, multicast) are errors. */
export function decodeRoute(message: NetlinkMessage): Result<RouteEntry> {
  return decodeWithHeader('route', [RTM_NEWROUTE, RTM_DELROUTE], RTMSG, message, (view, payload) => {
    const attributes = new Attributes(payload, RTMSG);
    const family = familyName(view.getUint8(0));
    const destination = attributes.bytes(RTA_DST);
    const none = family === 'inet' ? '0.0.0.0' : '::';
    const source = attributes.bytes(RTA_PREFSRC);
    const flags = view.getUint32(8, LITTLE_ENDIAN);
    const type = view.getUint8(7);
    const scope = view.getUint8(6);
    const hops = readNextHops(attributes.bytes(RTA_MULTIPATH));
    const first = hops[0] ?? { index: attributes.u32(RTA_OIF), flags, attributes };
    return {
      family,
      destination: `${destination === undefined ? none : formatAddress(destination)}/${view.getUint8(1)}`,
      type: TYPES[type] ?? type,
      table: attributes.u32(RTA_TABLE) ?? view.getUint8(4),
      protocol: view.getUint8(5),
      scope: SCOPE_NAMES.get(scope) ?? scope,
      index: first.index,
      via: readVia(first.attributes),
      onlink: (first.flags & RTNH_F_ONLINK) !== 0,
      source: source === undefined ? undefined : formatAddress(source),
      priority: attributes.u32(RTA_PRIORITY),
      mtu: attributes.nested(RTA_METRICS)?.u32(RTAX_MTU),
      nextHops: Math.max(1, hops.length),
      cloned: (flags & RTM_F_CLONED) !== 0,
    };
  });
}

/**
 * Whether an event says that an address, or a whole network, has become local; IPv6 announces it after duplicate address
 * detection. Link-local addresses, of which every new link has one, do not count.
 */
export function announcesLocalAddress(message: NetlinkMessage): boolean {
  const { type, payload } = message;
  // struct rtmsg: rtm_table and rtm_type. The rest is rarely decoded: hosts with BGP have thousands of route events.
  if (type !== RTM_NEWROUTE || payload[4] !== RT_TABLE_LOCAL || payload[7] !== TYPES.indexOf('local')) return false;
  const route = decodeRoute(message);
  return route.ok && !isLinkLocal(route.value.destination);
}

const SCOPE_NAMES = new Map(Object.entries(SCOPES).map(([name, number]) => [number as number, name as RouteScope]));

function readVia(attributes: Attributes): IpAddress | undefined {
  const gateway = attributes.bytes(RTA_GATEWAY) ?? attributes.bytes(RTA_VIA)?.subarray(2);
  return gateway === undefined ? undefined : formatAddress(gateway);
}

/** struct rtnexthop[], each with its own attributes. */
function readNextHops(bytes: Uint8Array | undefined): { index: number; flags: number; attributes: Attributes }[] {
  const hops: { index: number; flags: number; attributes: Attributes }[] = [];
  if (bytes === undefined) return hops;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let at = 0; at + RTNEXTHOP <= bytes.length; ) {
    const length = view.getUint16(at, LITTLE_ENDIAN);
    if (length < RTNEXTHOP || at + length > bytes.length) break;
    hops.push({
      index: view.getUint32(at + 4, LITTLE_ENDIAN),
      flags: view.getUint8(at + 2),
      attributes: new Attributes(bytes.subarray(at, at + length), RTNEXTHOP),
    });
    at += (length + 3) & ~3;
  }
  return hops;
}
