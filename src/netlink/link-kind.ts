import type { IpAddress, MacAddress } from '../model/address.ts';
import { type Attributes, type AttributeWriter, encodeError } from './attributes.ts';
import { formatAddress, parseAddress, parseMac } from './ip.ts';
import { IFNAMSIZ, writeIfinfomsg } from './rtnetlink.ts';

// Attributes of a link, include/uapi/linux/if_link.h
export const IFLA_ADDRESS = 1;
export const IFLA_IFNAME = 3;
export const IFLA_MTU = 4;
export const IFLA_LINK = 5;
export const IFLA_MASTER = 10;
export const IFLA_LINKINFO = 18;
const IFLA_NET_NS_PID = 19;
const IFLA_NET_NS_FD = 28;
export const IFF_UP = 1;

const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
/** include/uapi/linux/veth.h */
const VETH_INFO_PEER = 1;

// IFLA_VXLAN_*, include/uapi/linux/if_link.h
const VXLAN_ID = 1;
const VXLAN_GROUP = 2;
const VXLAN_LINK = 3;
const VXLAN_LOCAL = 4;
const VXLAN_TTL = 5;
const VXLAN_TOS = 6;
const VXLAN_LEARNING = 7;
const VXLAN_AGEING = 8;
const VXLAN_LIMIT = 9;
const VXLAN_PORT_RANGE = 10;
const VXLAN_PROXY = 11;
const VXLAN_RSC = 12;
const VXLAN_L2MISS = 13;
const VXLAN_L3MISS = 14;
const VXLAN_PORT = 15;
const VXLAN_GROUP6 = 16;
const VXLAN_LOCAL6 = 17;
const VXLAN_UDP_CSUM = 18;
const VXLAN_UDP_ZERO_CSUM6_TX = 19;
const VXLAN_UDP_ZERO_CSUM6_RX = 20;
const VXLAN_GBP = 23;
const VXLAN_COLLECT_METADATA = 25;

/** Network namespace of a link: by open file descriptor or by a process in it. */
export type NetnsReference = { fd: number } | { pid: number };

interface VethConfig {
  kind: 'veth';
  /**
   * Without it the kernel creates a peer with a generated name in the link's netns. The peer cannot be created up: the kernel
   * opens it before the link exists and returns ENOTCONN (drivers/net/veth.c veth_newlink); set it up afterwards.
   */
  peer?: { name: string; mtu?: number; mac?: MacAddress; netns?: NetnsReference } | undefined;
}

export interface VxlanConfig {
  kind: 'vxlan';
  /** 24 bit. */
  vni: number;
  /** Source of the outer packets. */
  local?: IpAddress | undefined;
  /** Default destination or multicast group. */
  group?: IpAddress | undefined;
  /** UDP port; the kernel's own default is 8472. */
  port?: number | undefined;
  learning?: boolean | undefined;
  /** Puts the packet mark into the header; can only be set at creation. */
  gbp?: boolean | undefined;
  /** ifindex through which outer packets are sent. */
  link?: number | undefined;
  ttl?: number | undefined;
  tos?: number | undefined;
  /** Lifetime of a learned FDB entry in seconds. */
  ageing?: number | undefined;
  /** Maximum number of FDB entries, 0 without limit. */
  limit?: number | undefined;
  /** Source port range of the outer packets. */
  sourcePorts?: { from: number; to: number } | undefined;
  proxy?: boolean | undefined;
  rsc?: boolean | undefined;
  l2miss?: boolean | undefined;
  l3miss?: boolean | undefined;
  udpChecksum?: boolean | undefined;
  zeroChecksum6Send?: boolean | undefined;
  zeroChecksum6Receive?: boolean | undefined;
  collectMetadata?: boolean | undefined;
}

export type LinkConfig = VethConfig | VxlanConfig | { kind: 'dummy' } | { kind: 'bridge' };

/** The netns in which a link is created or to which it is moved. */
export function writeNetns(writer: AttributeWriter, netns: NetnsReference): void {
  if ('fd' in netns) writer.putU32(IFLA_NET_NS_FD, netns.fd);
  else writer.putU32(IFLA_NET_NS_PID, netns.pid);
}

/** Without the NUL, as iproute2 sends it; the kernel accepts both. */
export function writeKind(writer: AttributeWriter, kind: string): void {
  const bytes = Uint8Array.from(kind, (char) => char.charCodeAt(0));
  writer.put(IFLA_INFO_KIND, bytes);
}

/** IFLA_LINKINFO: the kind of a link and its kind-specific data; a veth's contains its peer as a whole link message. */
export function writeLinkInfo(writer: AttributeWriter, config: LinkConfig): void {
  writer.nested(IFLA_LINKINFO, () => {
    writeKind(writer, config.kind);
    if (config.kind === 'vxlan') writer.nested(IFLA_INFO_DATA, () => writeVxlan(writer, config));
    const peer = config.kind === 'veth' ? config.peer : undefined;
    if (peer !== undefined) {
      writer.nested(IFLA_INFO_DATA, () => {
        writer.nested(VETH_INFO_PEER, () => {
          writeIfinfomsg(writer, 0, 0, 0);
          if (peer.mtu !== undefined) writer.putU32(IFLA_MTU, peer.mtu);
          if (peer.mac !== undefined) writer.put(IFLA_ADDRESS, parseMac(peer.mac));
          if (peer.netns !== undefined) writeNetns(writer, peer.netns);
          writer.putString(IFLA_IFNAME, peer.name, IFNAMSIZ);
        });
      });
    }
  });
}

function writeVxlan(writer: AttributeWriter, config: VxlanConfig): void {
  if (!Number.isInteger(config.vni) || config.vni < 0 || config.vni >= 1 << 24) throw encodeError(`VNI ${config.vni}`);
  const bool = (type: number, value: boolean | undefined) => {
    if (value !== undefined) writer.putU8(type, value ? 1 : 0);
  };
  const word = (type: number, value: number | undefined) => {
    if (value !== undefined) writer.putU32(type, value);
  };
  const address = (v4: number, v6: number, value: IpAddress | undefined) => {
    if (value === undefined) return;
    const bytes = parseAddress(value);
    writer.put(bytes.length === 4 ? v4 : v6, bytes);
  };
  if (config.gbp === true) writer.putFlag(VXLAN_GBP);
  if (config.collectMetadata === true) writer.putU8(VXLAN_COLLECT_METADATA, 1);
  writer.putU32(VXLAN_ID, config.vni);
  address(VXLAN_GROUP, VXLAN_GROUP6, config.group);
  address(VXLAN_LOCAL, VXLAN_LOCAL6, config.local);
  word(VXLAN_LINK, config.link);
  if (config.ttl !== undefined) writer.putU8(VXLAN_TTL, config.ttl);
  if (config.tos !== undefined) writer.putU8(VXLAN_TOS, config.tos);
  bool(VXLAN_LEARNING, config.learning);
  word(VXLAN_AGEING, config.ageing);
  word(VXLAN_LIMIT, config.limit);
  if (config.sourcePorts !== undefined) {
    const { from, to } = config.sourcePorts;
    writer.put(VXLAN_PORT_RANGE, Uint8Array.of(from >> 8, from & 0xff, to >> 8, to & 0xff));
  }
  if (config.port !== undefined) writer.putBe16(VXLAN_PORT, config.port);
  bool(VXLAN_PROXY, config.proxy);
  bool(VXLAN_RSC, config.rsc);
  bool(VXLAN_L2MISS, config.l2miss);
  bool(VXLAN_L3MISS, config.l3miss);
  bool(VXLAN_UDP_CSUM, config.udpChecksum);
  bool(VXLAN_UDP_ZERO_CSUM6_TX, config.zeroChecksum6Send);
  bool(VXLAN_UDP_ZERO_CSUM6_RX, config.zeroChecksum6Receive);
}

/** Kind name and, for vxlan, what the kernel reports of it. */
export function readLinkInfo(info: Attributes): { kind: string | undefined; vxlan: VxlanConfig | undefined } {
  const kind = info.string(IFLA_INFO_KIND);
  const data = kind === 'vxlan' ? info.nested(IFLA_INFO_DATA) : undefined;
  return { kind, vxlan: data === undefined ? undefined : readVxlan(data) };
}

function readVxlan(data: Attributes): VxlanConfig {
  const bool = (type: number) => {
    const value = data.u8(type);
    return value === undefined ? undefined : value !== 0;
  };
  const address = (v4: number, v6: number) => {
    const bytes = data.bytes(v4) ?? data.bytes(v6);
    return bytes === undefined ? undefined : formatAddress(bytes);
  };
  const range = data.bytes(VXLAN_PORT_RANGE);
  return {
    kind: 'vxlan',
    vni: data.u32(VXLAN_ID) ?? 0,
    local: address(VXLAN_LOCAL, VXLAN_LOCAL6),
    group: address(VXLAN_GROUP, VXLAN_GROUP6),
    port: data.be16(VXLAN_PORT),
    learning: bool(VXLAN_LEARNING),
    gbp: data.has(VXLAN_GBP),
    link: data.u32(VXLAN_LINK),
    ttl: data.u8(VXLAN_TTL),
    tos: data.u8(VXLAN_TOS),
    ageing: data.u32(VXLAN_AGEING),
    limit: data.u32(VXLAN_LIMIT),
    sourcePorts:
      range === undefined || range.length < 4
        ? undefined
        : { from: (range[0]! << 8) | range[1]!, to: (range[2]! << 8) | range[3]! },
    proxy: bool(VXLAN_PROXY),
    rsc: bool(VXLAN_RSC),
    l2miss: bool(VXLAN_L2MISS),
    l3miss: bool(VXLAN_L3MISS),
    udpChecksum: bool(VXLAN_UDP_CSUM),
    zeroChecksum6Send: bool(VXLAN_UDP_ZERO_CSUM6_TX),
    zeroChecksum6Receive: bool(VXLAN_UDP_ZERO_CSUM6_RX),
    collectMetadata: bool(VXLAN_COLLECT_METADATA),
  };
}
