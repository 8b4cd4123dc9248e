import type { MeshError, Result } from '../base/errors.ts';
import { AttributeWriter, decodeError, toDecodeResult } from './attributes.ts';
import type { NetlinkMessage } from './message.ts';

// Message types of NETLINK_ROUTE, include/uapi/linux/rtnetlink.h
export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const RTM_NEWADDR = 20;
export const RTM_DELADDR = 21;
export const RTM_GETADDR = 22;
export const RTM_NEWROUTE = 24;
export const RTM_DELROUTE = 25;
export const RTM_GETROUTE = 26;
export const RTM_NEWNEIGH = 28;
export const RTM_DELNEIGH = 29;
export const RTM_GETNEIGH = 30;
export const RTM_NEWRULE = 32;
export const RTM_DELRULE = 33;
export const RTM_GETRULE = 34;
export const RTM_NEWQDISC = 36;
export const RTM_DELQDISC = 37;
export const RTM_GETQDISC = 38;
export const RTM_NEWTFILTER = 44;
export const RTM_DELTFILTER = 45;
export const RTM_GETTFILTER = 46;
export const RTM_NEWNSID = 88;
export const RTM_DELNSID = 89;
export const RTM_GETNSID = 90;

/** Multicast groups of NETLINK_ROUTE by number, for NETLINK_ADD_MEMBERSHIP (enum rtnetlink_groups). */
export const RTNLGRP = {
  link: 1,
  neighbour: 3,
  trafficControl: 4,
  ipv4Address: 5,
  ipv4Route: 7,
  ipv4Rule: 8,
  ipv6Address: 9,
  ipv6Route: 11,
  ipv6Rule: 19,
  ipv4Netconf: 24,
  ipv6Netconf: 25,
  netnsId: 28,
} as const;

/** linux/if.h: IFNAMSIZ and ALTIFNAMSIZ, NUL included. */
export const IFNAMSIZ = 16;
export const ALTIFNAMSIZ = 128;

/** Decodes messages of the given types only, with their fixed header read through `view`. */
export function decodeWithHeader<T>(
  kind: string,
  types: readonly number[],
  headerLength: number,
  message: NetlinkMessage,
  body: (view: DataView, payload: Uint8Array) => T,
): Result<T, MeshError> {
  return toDecodeResult(kind, () => {
    if (!types.includes(message.type)) throw decodeError(`type ${message.type} is not one of ${types.join(', ')}`);
    const { payload } = message;
    if (payload.length < headerLength)
      throw decodeError(`${payload.length} bytes are shorter than the header of ${headerLength}`);
    return body(new DataView(payload.buffer, payload.byteOffset, payload.byteLength), payload);
  });
}

/** struct ifinfomsg, include/uapi/linux/rtnetlink.h */
export function writeIfinfomsg(writer: AttributeWriter, index: number, flags: number, change: number): AttributeWriter {
  return writer.zeros(4).u32(index).u32(flags).u32(change);
}

/** struct ndmsg, include/uapi/linux/neighbour.h */
export function writeNdmsg(family: number, index: number, state: number, flags: number): AttributeWriter {
  return new AttributeWriter(64).u8(family).zeros(3).u32(index).u16(state).u8(flags).u8(0);
}
