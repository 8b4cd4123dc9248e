import type { Result } from '../base/errors.ts';
import type { MacAddress } from '../model/address.ts';
import { Attributes, AttributeWriter, decodeText, LITTLE_ENDIAN } from './attributes.ts';
import { formatMac, parseMac } from './ip.ts';
import {
  IFF_UP,
  IFLA_ADDRESS,
  IFLA_IFNAME,
  IFLA_LINK,
  IFLA_LINKINFO,
  IFLA_MASTER,
  IFLA_MTU,
  type LinkConfig,
  type NetnsReference,
  readLinkInfo,
  type VxlanConfig,
  writeKind,
  writeLinkInfo,
  writeNetns,
} from './link-kind.ts';
import {
  type CreateMode,
  createFlags,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_DUMP,
  NLM_F_REQUEST,
} from './message.ts';
import {
  ALTIFNAMSIZ,
  decodeWithHeader,
  IFNAMSIZ,
  RTM_DELLINK,
  RTM_GETLINK,
  RTM_NEWLINK,
  writeIfinfomsg,
} from './rtnetlink.ts';

// include/uapi/linux/if_link.h
const IFLA_IFALIAS = 20;
const IFLA_EXT_MASK = 29;
const IFLA_LINK_NETNSID = 37;
const IFLA_PROP_LIST = 52;
const IFLA_ALT_IFNAME = 53;
/** Statistics are half of a link's message and are not used (RTEXT_FILTER_SKIP_STATS, rtnetlink.h). */
const RTEXT_FILTER_SKIP_STATS = 8;
/** sizeof(struct ifinfomsg) */
const IFINFOMSG = 16;

export type LinkTarget = { index: number } | { name: string } | { altName: string };

/** What can be set when a link is made as well as later. */
export interface LinkSettings {
  up?: boolean | undefined;
  mtu?: number | undefined;
  mac?: MacAddress | undefined;
  /** ifindex of the bridge or bond to be in, 0 to leave it. */
  master?: number | undefined;
  /** Make the link in, or move it to, this netns. */
  netns?: NetnsReference | undefined;
}

export interface NewLink extends LinkSettings {
  name: string;
  config: LinkConfig;
}

/** A link as the kernel reports it. */
export interface Link {
  index: number;
  name: string;
  /** IFF_*, include/uapi/linux/if.h. */
  flags: number;
  /** Administratively up. */
  up: boolean;
  mtu: number | undefined;
  mac: MacAddress | undefined;
  /** `veth`, `vxlan` …; undefined for lo and hardware. */
  kind: string | undefined;
  vxlan: VxlanConfig | undefined;
  /** ifindex of the other end of a veth, or of the device below; in the netns `linkNetnsId` when that is given. */
  linkIndex: number | undefined;
  /** Netns id (RTM_GETNSID) as seen from the link's netns; -1 when the other netns has no id here. */
  linkNetnsId: number | undefined;
  master: number | undefined;
  alias: string | undefined;
  altNames: string[];
}

function writeSettings(writer: AttributeWriter, settings: LinkSettings): void {
  if (settings.mtu !== undefined) writer.putU32(IFLA_MTU, settings.mtu);
  if (settings.mac !== undefined) writer.put(IFLA_ADDRESS, parseMac(settings.mac));
  if (settings.master !== undefined) writer.putU32(IFLA_MASTER, settings.master);
  if (settings.netns !== undefined) writeNetns(writer, settings.netns);
}

function upBits(up: boolean | undefined): [flags: number, change: number] {
  return [up === true ? IFF_UP : 0, up === undefined ? 0 : IFF_UP];
}

/** `ip link add`. */
export function newLink(link: NewLink, mode: CreateMode = 'create'): NetlinkRequest {
  const [flags, change] = upBits(link.up);
  const writer = writeIfinfomsg(new AttributeWriter(), 0, flags, change);
  writeSettings(writer, link);
  writer.putString(IFLA_IFNAME, link.name, IFNAMSIZ);
  writeLinkInfo(writer, link.config);
  return { type: RTM_NEWLINK, flags: createFlags(mode), payload: writer.finish() };
}

function writeTarget(target: LinkTarget, flags = 0, change = 0): AttributeWriter {
  const writer = writeIfinfomsg(new AttributeWriter(), 'index' in target ? target.index : 0, flags, change);
  if ('name' in target) writer.putString(IFLA_IFNAME, target.name, IFNAMSIZ);
  if ('altName' in target) writer.putString(IFLA_ALT_IFNAME, target.altName, ALTIFNAMSIZ);
  return writer;
}

/** `ip link set` (RTM_NEWLINK without NLM_F_CREATE, as iproute2 does); `name` renames (the link is then to be named by index, and down on kernels before 6.0). */
export function setLink(target: LinkTarget, change: LinkSettings & { name?: string }): NetlinkRequest {
  const writer = writeTarget(target, ...upBits(change.up));
  writeSettings(writer, change);
  if (change.name !== undefined && 'index' in target) writer.putString(IFLA_IFNAME, change.name, IFNAMSIZ);
  return { type: RTM_NEWLINK, flags: NLM_F_REQUEST, payload: writer.finish() };
}

/** `ip link del`; deleting one end of a veth deletes both. */
export function deleteLink(target: LinkTarget): NetlinkRequest {
  return { type: RTM_DELLINK, flags: NLM_F_REQUEST, payload: writeTarget(target).finish() };
}

/** `ip link show dev`: answers one RTM_NEWLINK, or ENODEV. */
export function getLink(target: LinkTarget): NetlinkRequest {
  const writer = writeTarget(target).putU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return { type: RTM_GETLINK, flags: NLM_F_REQUEST, payload: writer.finish() };
}

/** `ip link show [type kind] [master index]`. */
export function dumpLinks(filter: { kind?: string; master?: number } = {}): NetlinkRequest {
  const writer = writeIfinfomsg(new AttributeWriter(), 0, 0, 0);
  if (filter.master !== undefined) writer.putU32(IFLA_MASTER, filter.master);
  if (filter.kind !== undefined) {
    const { kind } = filter;
    writer.nested(IFLA_LINKINFO, () => writeKind(writer, kind));
  }
  writer.putU32(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
  return { type: RTM_GETLINK, flags: NLM_F_REQUEST | NLM_F_DUMP, payload: writer.finish() };
}

/** Reads RTM_NEWLINK and RTM_DELLINK. */
export function decodeLink(message: NetlinkMessage): Result<Link> {
  return decodeWithHeader('link', [RTM_NEWLINK, RTM_DELLINK], IFINFOMSG, message, (view, payload) => {
    const attributes = new Attributes(payload, IFINFOMSG);
    const flags = view.getUint32(8, LITTLE_ENDIAN);
    const info = attributes.nested(IFLA_LINKINFO);
    const { kind, vxlan } = info === undefined ? { kind: undefined, vxlan: undefined } : readLinkInfo(info);
    const mac = attributes.bytes(IFLA_ADDRESS);
    return {
      index: view.getInt32(4, LITTLE_ENDIAN),
      name: attributes.string(IFLA_IFNAME) ?? '',
      flags,
      up: (flags & IFF_UP) !== 0,
      mtu: attributes.u32(IFLA_MTU),
      mac: mac === undefined ? undefined : formatMac(mac),
      kind,
      vxlan,
      linkIndex: attributes.u32(IFLA_LINK),
      linkNetnsId: attributes.i32(IFLA_LINK_NETNSID),
      master: attributes.u32(IFLA_MASTER),
      alias: attributes.string(IFLA_IFALIAS),
      altNames: readAltNames(attributes),
    };
  });
}

function readAltNames(attributes: Attributes): string[] {
  const list = attributes.nested(IFLA_PROP_LIST);
  if (list === undefined) return [];
  return list
    .list()
    .filter(({ type }) => type === IFLA_ALT_IFNAME)
    .map(({ bytes }) => decodeText(bytes));
}
