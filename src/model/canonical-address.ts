import ipaddr from 'ipaddr.js';
import type { IpAddress } from './address.ts';

/** A parsed address in the canonical text form of `IpAddress`. */
export function addressText(address: ipaddr.IPv4 | ipaddr.IPv6): IpAddress {
  return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : address.toString();
}

/** Undefined for text that is no address; `::ffff:192.0.2.1` of a dual-stack socket is 192.0.2.1. */
export function canonicalAddress(text: string): IpAddress | undefined {
  return ipaddr.isValid(text) ? addressText(ipaddr.process(text)) : undefined;
}

/** False for text that is no address. */
export function isLoopback(address: string): boolean {
  return ipaddr.isValid(address) && ipaddr.process(address).range() === 'loopback';
}

/** Whether a socket bound to this address is bound to every address. */
export function isWildcard(address: IpAddress): boolean {
  return address === '0.0.0.0' || address === '::';
}
