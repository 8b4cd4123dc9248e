import ipaddr from 'ipaddr.js';
import { familyOf, type IpAddress } from '../model/address.ts';

/** Whether an address is in a network, or is the address. */
export function isWithin(address: IpAddress, network: string): boolean {
  if (familyOf(address) !== familyOf(network)) return false;
  const parsed = ipaddr.parse(address);
  if (!network.includes('/')) return parsed.toString() === ipaddr.parse(network).toString();
  const [base, prefix] = ipaddr.parseCIDR(network);
  return parsed.match([base, prefix] as [never, number]);
}
