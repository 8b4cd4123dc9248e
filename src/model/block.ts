import ipaddr from 'ipaddr.js';
import type { Cidr, Family, IpAddress } from './address.ts';
import { familyOf } from './address.ts';
import { addressText } from './canonical-address.ts';

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
  return addressText(ipaddr.fromByteArray(bytes));
}

/** Prefix length of a single address. */
export function hostPrefix(family: Family): 32 | 128 {
  return family === 'inet' ? 32 : 128;
}

/** A network as iproute2 and iptables-save print it: without the prefix length where it is a single address. */
export function withoutHostPrefix(network: Cidr): string {
  return network.replace(network.includes(':') ? /\/128$/ : /\/32$/, '');
}

/** A network of one address: `10.252.1.2/32`. */
export function hostNetwork(address: IpAddress): Cidr {
  return `${address}/${hostPrefix(familyOf(address))}`;
}

export const DEFAULT_DESTINATION: Record<Family, Cidr> = { inet: '0.0.0.0/0', inet6: '::/0' };

/** The `number`-th block of prefix length `blockPrefix` in a subnet, or undefined when the subnet has no such block. */
export function blockOf(subnet: Cidr, blockPrefix: number, number: number): Cidr | undefined {
  const [network, prefix] = ipaddr.parseCIDR(subnet);
  const bits = network.toByteArray().length * 8;
  if (number < 0 || number >= 2 ** (blockPrefix - prefix)) return undefined;
  const first = BigInt(
    `0x${network
      .toByteArray()
      .map((byte) => byte.toString(16).padStart(2, '0'))
      .join('')}`,
  );
  return `${addressOfBits(first + (BigInt(number) << BigInt(bits - blockPrefix)), bits)}/${blockPrefix}`;
}

/** How many addresses of a block can be used, at most 65536. */
export function blockSize(block: Cidr): number {
  const [network, prefix] = ipaddr.parseCIDR(block);
  return 2 ** Math.min(16, network.toByteArray().length * 8 - prefix);
}

/** The number of an address in a block; the inverse of `addressAt`. */
export function slotOf(block: Cidr, address: IpAddress): number {
  return lastBits(address) - lastBits(block.slice(0, block.indexOf('/')));
}

/** The last 32 bits. IPv4 is parsed here for speed: the allocator does this for every task of a node. */
function lastBits(address: IpAddress): number {
  const bytes = address.includes(':') ? ipaddr.parse(address).toByteArray().slice(-4) : address.split('.');
  let bits = 0;
  for (const byte of bytes) bits = bits * 256 + Number(byte);
  return bits;
}

function addressOfBits(value: bigint, bits: number): IpAddress {
  const hex = value.toString(16).padStart(bits / 4, '0');
  return addressText(ipaddr.fromByteArray(hex.match(/../g)!.map((pair) => Number.parseInt(pair, 16))));
}

/** The network without host bits: `192.0.2.7/24` is 192.0.2.0/24. */
export function withoutHostBits(network: Cidr): Cidr {
  const base =
    familyOf(network) === 'inet'
      ? ipaddr.IPv4.networkAddressFromCIDR(network)
      : ipaddr.IPv6.networkAddressFromCIDR(network);
  return `${addressText(base)}/${ipaddr.parseCIDR(network)[1]}`;
}

/** Whether an address is in a network, or is the address. */
export function isWithin(address: IpAddress, network: Cidr | IpAddress): boolean {
  if (familyOf(address) !== familyOf(network)) return false;
  const parsed = ipaddr.parse(address);
  if (!network.includes('/')) return parsed.toString() === ipaddr.parse(network).toString();
  return parsed.match(ipaddr.parseCIDR(network));
}

/** Link-local addresses of IPv6: valid on one link only. Those of IPv4 are routed by the kernel like any other. */
export const LINK_LOCAL: Cidr = 'fe80::/10';

/** Of an address or network in canonical form. */
export function isLinkLocal(address: IpAddress | Cidr): boolean {
  return /^fe[89ab]/.test(address);
}
