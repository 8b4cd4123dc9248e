import type { Cidr, Family, IpAddress } from '../../model/address.ts';
import { hostNetwork, isWithin } from '../../model/block.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import { decodeRoute, dumpRoutes, RT_TABLE_LOCAL } from '../../netlink/route.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { NETLINK_ROUTE, type Transport } from '../driver/transport.ts';

/**
 * What is local in the host, as `-m addrtype --dst-type LOCAL` has it: by the table `local`, which has whole networks, too
 * (127.0.0.0/8, AnyIP).
 */
export interface LocalAddresses {
  includes(address: IpAddress): boolean;
  /** Whether an address of a network is local. */
  touches(network: Cidr): boolean;
}

export async function readLocalAddresses(transport: Transport): Promise<LocalAddresses> {
  const [inet, inet6] = [await readLocalRoutes(transport, 'inet'), await readLocalRoutes(transport, 'inet6')];
  return localAddresses([...inet, ...inet6]);
}

/** `local`: destinations of the routes of type local. */
export function localAddresses(local: readonly Cidr[]): LocalAddresses {
  const hosts = new Set<Cidr>();
  const networks: Cidr[] = [];
  for (const destination of local) {
    if (hostNetwork(baseOf(destination)) === destination) hosts.add(destination);
    else networks.push(destination);
  }
  const includes = (address: IpAddress) =>
    hosts.has(hostNetwork(address)) || networks.some((network) => isWithin(address, network));
  return {
    includes,
    touches(network) {
      const base = baseOf(network);
      if (includes(base)) return true;
      if (hostNetwork(base) === network) return false;
      return [...hosts, ...networks].some((inside) => isWithin(baseOf(inside), network));
    },
  };
}

function baseOf(network: Cidr): IpAddress {
  return network.slice(0, network.indexOf('/'));
}

async function readLocalRoutes(transport: Transport, family: Family): Promise<Cidr[]> {
  const request = dumpRoutes({ family, table: RT_TABLE_LOCAL });
  return (
    decodeAll(await transport.dump(HOST_NETNS, NETLINK_ROUTE, request), decodeRoute)
      // Kernels without the family list the other one.
      .filter((route) => route.family === family && route.table === RT_TABLE_LOCAL && route.type === 'local')
      .map(({ destination }) => destination)
  );
}
