import ipaddr from 'ipaddr.js';
import { err, ok, type Result } from '../base/errors.ts';
import type { Cidr } from '../model/address.ts';
import { hostNetwork, isLinkLocal } from '../model/block.ts';
import { addressText } from '../model/canonical-address.ts';
import { shorten } from './manifest-error.ts';

/** An invalid address or network. */
export interface NetworkError {
  message: string;
  remedy: string;
}

/**
 * The network in canonical form: an address alone is a network of one address, host bits are cleared. IPv4-mapped IPv6
 * (`::ffff:10.0.0.1`) is rejected, because the kernel shows such clients with their IPv4 address.
 */
export function parseNetwork(text: string): Result<Cidr, NetworkError> {
  const [base = '', length, ...rest] = text.length > 64 ? [''] : text.trim().split('/');
  const address = parseAddress(base);
  const bits = address instanceof ipaddr.IPv6 ? 128 : 32;
  const prefix = length === undefined ? bits : /^\d{1,3}$/.test(length) ? Number(length) : -1;
  if (address === undefined || rest.length > 0 || prefix < 0) {
    return err({
      message: `"${shorten(text)}" is not an address or a network`,
      remedy: 'write it like 192.0.2.7, 10.0.0.0/8 or 2001:db8::/32',
    });
  }
  if (prefix > bits) {
    return err({
      message: `the prefix length ${prefix} of "${shorten(text)}" is more than ${bits}`,
      remedy: `choose one of 0-${bits}`,
    });
  }
  if (address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress() && prefix >= 96) {
    const inner = `${address.toIPv4Address()}${prefix === 128 ? '' : `/${prefix - 96}`}`;
    return err({ message: `"${shorten(text)}" is an IPv4 network written as IPv6`, remedy: `write ${inner}` });
  }
  return ok(networkOf(address, prefix));
}

/** An address alone, as a network of one; `0.0.0.0` and `::` are every address of their family, as in Docker. */
export function parseHost(text: string): Result<Cidr, NetworkError> {
  if (text === '0.0.0.0' || text === '::') return ok(`${text}/0`);
  if (text.includes('/')) {
    return err({
      message: `"${shorten(text)}" is not an address`,
      remedy: 'write one address here; networks go to `x-mesh.ingress.addresses`',
    });
  }
  const network = parseNetwork(text);
  if (network.ok && isLinkLocal(network.value)) {
    return err({
      message: `"${shorten(text)}" is link-local: the kernel never forwards such packets, so no port is published there`,
      remedy: 'use another address of the node',
    });
  }
  return network;
}

/** Only the four-part decimal form of IPv4: `10.1` and `010.0.0.1` mean different things to different programs. */
function parseAddress(text: string): ipaddr.IPv4 | ipaddr.IPv6 | undefined {
  if (ipaddr.IPv4.isValidFourPartDecimal(text)) return ipaddr.IPv4.parse(text);
  return text.includes(':') && !text.includes('%') && ipaddr.IPv6.isValid(text) ? ipaddr.IPv6.parse(text) : undefined;
}

function networkOf(address: ipaddr.IPv4 | ipaddr.IPv6, prefix: number): Cidr {
  const bytes = address.toByteArray().map((byte, index) => {
    const kept = Math.max(0, Math.min(8, prefix - index * 8));
    return byte & (0xff00 >> kept) & 0xff;
  });
  const text = addressText(ipaddr.fromByteArray(bytes));
  return prefix === bytes.length * 8 ? hostNetwork(text) : `${text}/${prefix}`;
}

/** Unique networks in a fixed order, because their order has no effect. */
export function sortedNetworks(networks: Iterable<Cidr>): Cidr[] {
  return [...new Set(networks)].sort((a, b) => Number(a.includes(':')) - Number(b.includes(':')) || (a < b ? -1 : 1));
}
