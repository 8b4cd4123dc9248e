import type { Cidr, IpAddress } from '../model/address.ts';
import { familyOf } from '../model/address.ts';
import type { Route } from '../model/kinds/route.ts';

const MAIN_TABLE = 254;

/** A route through a device, or through a gateway on its link (`onlink`: the gateway need not be in a connected subnet). */
export function route(
  netns: string,
  destination: Cidr,
  dev: string,
  options: { via?: IpAddress; source?: IpAddress; table?: number } = {},
): Route {
  const { via, source, table = MAIN_TABLE } = options;
  // IPv6 routes have no scope: the kernel stores and shows global (fib6 sets RT_SCOPE_UNIVERSE).
  const scope = via === undefined && familyOf(destination) === 'inet' ? 'link' : 'global';
  return {
    kind: 'route',
    netns,
    type: 'unicast',
    destination,
    table,
    dev,
    onlink: via !== undefined,
    scope,
    ...(via === undefined ? {} : { via }),
    ...(source === undefined ? {} : { source }),
  };
}
