import { type Family, familyOf, type IpAddress, type Protocol } from './address.ts';
import { canonicalAddress, isWildcard } from './canonical-address.ts';

/** A listening socket of a network namespace, as far as it decides which clients it accepts. */
export interface BoundSocket {
  protocol: Protocol;
  port: number;
  address: IpAddress;
  /** IPV6_V6ONLY of a socket on `::`: it accepts no IPv4 (ipv6(7)). */
  v6only?: true;
}

/** A socket in the namespace of a task. */
export interface TaskSocket extends BoundSocket {
  taskId: string;
}

/** Whether the socket accepts clients of a family that connect to one of the addresses `own` of its namespace. */
export function acceptsFamily(
  { address: text, v6only }: BoundSocket,
  family: Family,
  own: readonly IpAddress[],
): boolean {
  const address = canonicalAddress(text) ?? text;
  if (isWildcard(address)) return familyOf(address) === family || (family === 'inet' && v6only === undefined);
  return familyOf(address) === family && own.includes(address);
}
