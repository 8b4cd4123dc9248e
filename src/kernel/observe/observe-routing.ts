import {
  type AddressObject,
  type FdbEntry,
  type KernelObject,
  keyOf,
  type Neighbour,
  type ObjectKind,
  type Route,
  type Rule,
} from '../../model/kernel-state.ts';
import { HOST_NETNS, ROUTE_PROTOCOL, RULE_PRIORITY, TASK_GATEWAY } from '../../model/names.ts';
import { type AddressEntry, decodeAddress, dumpAddresses } from '../../netlink/address.ts';
import type { Link } from '../../netlink/link.ts';
import type { NetlinkMessage, NetlinkRequest } from '../../netlink/message.ts';
import {
  decodeFdb,
  decodeNeighbour,
  dumpFdb,
  dumpNeighbours,
  type FdbRecord,
  type NeighbourEntry,
} from '../../netlink/neighbour.ts';
import { decodeRoute, dumpRoutes, type RouteEntry } from '../../netlink/route.ts';
import { decodeRule, dumpRules, type RuleEntry } from '../../netlink/rule.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { kernelErrorCode } from '../driver/exchange.ts';
import { NETLINK_ROUTE, type Transport } from '../driver/transport.ts';
import { FOREIGN_DEVICE, multipleRoutesDevice } from './foreign-routes.ts';

/** Metric of an IPv6 route when nobody says (include/net/ip6_fib.h). */
const IP6_RT_PRIO_USER = 1024;
const ANY_MAC = '00:00:00:00:00:00';

/** Name of a link by its ifindex; undefined for links that are not ours. */
export type LinkNameOf = (index: number) => string | undefined;

/** Addresses, neighbours, FDB entries, routes and rules of one netns. In the host only what is on our link or carries our protocol. */
export async function observeRouting(
  transport: Transport,
  netns: string,
  links: readonly Link[],
  includesKind: (kind: ObjectKind) => boolean,
): Promise<KernelObject[]> {
  const names = new Map(links.map(({ index, name }) => [index, name]));
  const nameOf: LinkNameOf = (index) => names.get(index);
  const host = netns === HOST_NETNS;
  const dump = async (request: NetlinkRequest): Promise<NetlinkMessage[]> => {
    try {
      return await transport.dump(netns, NETLINK_ROUTE, request);
    } catch (thrown) {
      // A link that went away since it was listed has nothing on it.
      if (kernelErrorCode(thrown) === 'ENODEV') return [];
      throw thrown;
    }
  };
  /** In the host, which may have many, only what belongs to our links is listed. */
  const perLink = host ? links.map(({ index }) => ({ index })) : [{}];
  const objects: (KernelObject | undefined)[] = [];

  if (includesKind('address')) {
    for (const filter of perLink) {
      const entries = decodeAll(await dump(dumpAddresses(filter)), decodeAddress);
      objects.push(...entries.map((entry) => addressObject(netns, entry, nameOf)));
    }
  }
  if (includesKind('neighbour')) {
    for (const filter of perLink) {
      const entries = decodeAll(await dump(dumpNeighbours(filter)), decodeNeighbour);
      objects.push(...entries.map((entry) => neighbourObject(netns, entry, nameOf)));
    }
  }
  if (includesKind('fdb')) {
    for (const { index } of links.filter(({ kind }) => kind === 'vxlan')) {
      const entries = decodeAll(await dump(dumpFdb({ index })), decodeFdb);
      objects.push(...entries.map((entry) => fdbObject(netns, entry, nameOf)));
    }
  }
  if (includesKind('route')) {
    for (const family of ['inet', 'inet6'] as const) {
      const entries = decodeAll(await dump(dumpRoutes({ family, protocol: ROUTE_PROTOCOL })), decodeRoute);
      const here = entries.filter((entry) => entry.family === family).map((entry) => routeObject(netns, entry, nameOf));
      objects.push(...mergeDuplicates(here));
    }
  }
  if (includesKind('rule') && !host) {
    const entries = decodeAll(await dump(dumpRules()), decodeRule);
    objects.push(...entries.map((entry) => ruleObject(netns, entry)));
  }
  return objects.filter((object) => object !== undefined);
}

/** Undefined for what the kernel makes by itself: loopback and link-local addresses, but for the gateway of tasks. */
export function addressObject(netns: string, entry: AddressEntry, nameOf: LinkNameOf): AddressObject | undefined {
  const dev = nameOf(entry.index);
  const { address, prefix } = entry;
  const ownMaking = address === '::1' || address.startsWith('127.') || /^fe[89ab]/.test(address);
  if (dev === undefined || (ownMaking && address !== TASK_GATEWAY.inet6)) return undefined;
  return { kind: 'address', netns, dev, address, prefix };
}

/** Undefined for entries the kernel learned or that are on links not ours. */
export function neighbourObject(netns: string, entry: NeighbourEntry, nameOf: LinkNameOf): Neighbour | undefined {
  const dev = nameOf(entry.index);
  if (dev === undefined || !entry.permanent || entry.mac === undefined) return undefined;
  return { kind: 'neighbour', netns, dev, address: entry.address, mac: entry.mac };
}

/** Routes to one destination that differ in their metric, as one that differs from anything wanted. */
function mergeDuplicates(routes: readonly (Route | undefined)[]): Route[] {
  const byKey = new Map<string, Route[]>();
  for (const route of routes) {
    if (route === undefined) continue;
    const key = keyOf(route);
    const twins = byKey.get(key);
    if (twins === undefined) byKey.set(key, [route]);
    else twins.push(route);
  }
  return [...byKey.values()].map((some) =>
    some.length === 1 ? some[0]! : { ...some[0]!, dev: multipleRoutesDevice(some.length) },
  );
}

/** Undefined for learned entries, the flooding entry (all zeroes) and those without a remote VTEP. */
export function fdbObject(netns: string, entry: FdbRecord, nameOf: LinkNameOf): FdbEntry | undefined {
  const dev = nameOf(entry.index);
  if (dev === undefined || !entry.permanent || entry.dst === undefined || entry.mac === ANY_MAC) return undefined;
  const { mac, dst, port, vni } = entry;
  // To another port than the device's is none of ours: so it differs from anything wanted.
  const portSuffix = port === undefined ? '' : ` port ${port}`;
  return { kind: 'fdb', netns, dev, mac, dst: `${dst}${portSuffix}`, ...(vni === undefined ? {} : { vni }) };
}

/** Undefined for routes of other protocols and for clones of the IPv6 routing cache. */
export function routeObject(netns: string, entry: RouteEntry, nameOf: LinkNameOf): Route | undefined {
  if (entry.protocol !== ROUTE_PROTOCOL || entry.cloned) return undefined;
  const { destination, table, type, scope, onlink, via, source, index, priority, nextHops } = entry;
  const defaultMetric = entry.family === 'inet' ? undefined : IP6_RT_PRIO_USER;
  const isForeign = (type !== 'local' && type !== 'unicast') || priority !== defaultMetric || nextHops > 1;
  return {
    kind: 'route',
    netns,
    type: type === 'local' ? 'local' : 'unicast',
    destination,
    table,
    // Other types, metrics and several ways are never ours: without a device they differ from anything wanted.
    dev: index === undefined || isForeign ? FOREIGN_DEVICE : (nameOf(index) ?? `if${index}`),
    ...(via === undefined ? {} : { via }),
    onlink,
    scope: scope === 'link' || scope === 'host' ? scope : 'global',
    ...(source === undefined ? {} : { source }),
  };
}

/** Undefined for rules whose priority is not one of ours. */
export function ruleObject(netns: string, entry: RuleEntry): Rule | undefined {
  const { family, priority, fwmark, fwmask, action } = entry;
  if (priority < RULE_PRIORITY.first || priority > RULE_PRIORITY.last) return undefined;
  // One that selects by more than the mark is not what we make: mask 0 makes it differ from what is wanted (all but
  // the one rule for everything, beside which it does nothing).
  const mask = entry.otherSelectors ? 0 : fwmask;
  return { kind: 'rule', netns, family, priority, fwmark, fwmask: mask, action: action === 'other' ? 'nop' : action };
}
