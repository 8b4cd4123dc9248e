import type { IpAddress } from '../model/address.ts';
import { isWithin } from '../model/block.ts';
import type { NodeState } from './packet.ts';

/** Whether the host netns of a node has the address. */
export function isAddressOf({ addresses }: NodeState, address: IpAddress): boolean {
  return addresses.includes(address) || isLoopback(address);
}

export function isLoopback(address: IpAddress): boolean {
  return isWithin(address, address.includes(':') ? '::1/128' : '127.0.0.0/8');
}
