import type { Result } from '../base/errors.ts';
import type { Family, IpAddress } from '../model/address.ts';
import { Attributes, AttributeWriter, LITTLE_ENDIAN } from './attributes.ts';
import {
  AF_INET,
  AF_INET6,
  AF_UNSPEC,
  checkPrefix,
  familyName,
  familyNumber,
  formatAddress,
  parseAddress,
} from './ip.ts';
import {
  type CreateMode,
  createFlags,
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_DUMP,
  NLM_F_REQUEST,
} from './message.ts';
import { decodeWithHeader, RTM_DELADDR, RTM_GETADDR, RTM_NEWADDR } from './rtnetlink.ts';

// include/uapi/linux/if_addr.h
const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_LABEL = 3;
const IFA_FLAGS = 8;
/** Usable at once: without it an IPv6 address does not respond for a second (duplicate address detection). */
export const IFA_F_NODAD = 0x02;
/** Another host has this IPv6 address: the kernel does not use it. */
export const IFA_F_DADFAILED = 0x08;
/** sizeof(struct ifaddrmsg) */
const IFADDRMSG = 8;

export interface AddressSpec {
  /** ifindex. */
  index: number;
  address: IpAddress;
  prefix: number;
  /** Other end of a point-to-point link, when it differs. */
  peer?: IpAddress | undefined;
  /** rtm_scope numbers: 0 global, 253 link, 254 host. */
  scope?: number | undefined;
  /** IFA_F_* */
  flags?: number | undefined;
}

export interface AddressEntry {
  index: number;
  family: Family;
  address: IpAddress;
  prefix: number;
  peer: IpAddress | undefined;
  scope: number;
  flags: number;
  label: string | undefined;
}

function writeAddress(spec: AddressSpec): AttributeWriter {
  const local = parseAddress(spec.address);
  checkPrefix(spec.prefix, local);
  const family = local.length === 4 ? AF_INET : AF_INET6;
  const flags = spec.flags ?? 0;
  const writer = new AttributeWriter(64)
    .u8(family)
    .u8(spec.prefix)
    .u8(flags & 0xff)
    .u8(spec.scope ?? 0)
    .u32(spec.index);
  // The header's flags are 8 bit; the attribute, where there is one, replaces them.
  if (flags > 0xff) writer.putU32(IFA_FLAGS, flags);
  writer.put(IFA_LOCAL, local);
  return writer.put(IFA_ADDRESS, spec.peer === undefined ? local : parseAddress(spec.peer));
}

/** `ip address add`. */
export function newAddress(spec: AddressSpec, mode: CreateMode = 'create'): NetlinkRequest {
  return { type: RTM_NEWADDR, flags: createFlags(mode), payload: writeAddress(spec).finish() };
}

/** `ip address del`. */
export function deleteAddress(spec: AddressSpec): NetlinkRequest {
  return { type: RTM_DELADDR, flags: NLM_F_REQUEST, payload: writeAddress(spec).finish() };
}

/** `ip address show [dev]`; the filter by device needs strict checking on the socket. */
export function dumpAddresses(filter: { family?: Family; index?: number } = {}): NetlinkRequest {
  const family = filter.family === undefined ? AF_UNSPEC : familyNumber(filter.family);
  const payload = new AttributeWriter(16)
    .u8(family)
    .zeros(3)
    .u32(filter.index ?? 0)
    .finish();
  return { type: RTM_GETADDR, flags: NLM_F_REQUEST | NLM_F_DUMP, payload };
}

/** Reads RTM_NEWADDR and RTM_DELADDR. */
export function decodeAddress(message: NetlinkMessage): Result<AddressEntry> {
  return decodeWithHeader('address', [RTM_NEWADDR, RTM_DELADDR], IFADDRMSG, message, (view, payload) => {
    const attributes = new Attributes(payload, IFADDRMSG);
    const remote = attributes.bytes(IFA_ADDRESS);
    // IPv6 sends IFA_LOCAL only where there is a peer.
    const local = attributes.bytes(IFA_LOCAL) ?? remote ?? new Uint8Array(0);
    const address = formatAddress(local);
    const other = remote === undefined ? address : formatAddress(remote);
    return {
      index: view.getUint32(4, LITTLE_ENDIAN),
      family: familyName(view.getUint8(0)),
      address,
      prefix: view.getUint8(1),
      peer: other === address ? undefined : other,
      scope: view.getUint8(3),
      flags: attributes.u32(IFA_FLAGS) ?? view.getUint8(2),
      label: attributes.string(IFA_LABEL),
    };
  });
}
