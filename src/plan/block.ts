import ipaddr from 'ipaddr.js';
import type { Cidr, Family, IpAddress } from '../model/address.ts';
import { familyOf } from '../model/address.ts';

/** Address number `slot` of a block, counted from its first; `slot` is at most 65535. */
export function addressAt(block: Cidr, slot: number): IpAddress {
  const [network] = ipaddr.parseCIDR(block);
  const bytes = network.toByteArray();
  let carry = slot;
  for (let index = bytes.length - 1; index >= 0 && carry > 0; index--) {
    const sum = bytes[index]! + carry;
    bytes[index] = sum & 0xff;
    carry = sum >> 8;
  }
  const address = ipaddr.fromByteArray(bytes);
  return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : address.toString();
}

/** Prefix length of a single address. */
export function hostPrefix(family: Family): 32 | 128 {
  return family === 'inet' ? 32 : 128;
}

/** A network of one address: `10.252.1.2/32`. */
export function hostNetwork(address: IpAddress): Cidr {
  return `${address}/${hostPrefix(familyOf(address))}`;
}

export const DEFAULT_DESTINATION: Record<Family, Cidr> = { inet: '0.0.0.0/0', inet6: '::/0' };
