import type { Listener } from '../../kernel/kernel.ts';
import { familyOf, type IpAddress, type Protocol } from '../../model/address.ts';
import { canonicalAddress, isWildcard } from '../../model/canonical-address.ts';
import { formatHostPort } from '../../model/host-port.ts';

/**
 * Why clients of a task would still be refused; undefined when every target is bound on an address that they reach. A
 * task becomes an endpoint only then.
 */
export function whyNotReady(
  targets: readonly { protocol: Protocol; port: number }[],
  addresses: readonly IpAddress[],
  bound: readonly Listener[],
): string | undefined {
  const problems: string[] = [];
  for (const { protocol, port } of targets) {
    const sockets = bound.filter((socket) => socket.protocol === protocol && socket.port === port);
    if (sockets.some(({ address }) => isWildcard(address) || addresses.includes(canonicalAddress(address) ?? address)))
      continue;
    const target = `${port}/${protocol}`;
    const other = sockets[0]?.address;
    if (other === undefined) problems.push(`nothing listens on ${target}`);
    else problems.push(`${target} is only on ${formatHostPort(other, port)}; bind ${wildcardFor(addresses)}`);
  }
  return problems.length === 0 ? undefined : `the process runs but ${problems.join(', and ')}`;
}

function wildcardFor(addresses: readonly IpAddress[]): string {
  return addresses.some((address) => familyOf(address) === 'inet') ? '0.0.0.0' : '[::]';
}
