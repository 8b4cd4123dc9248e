import { familyOf } from '../../model/address.ts';
import { keyOf } from '../../model/kernel-state.ts';
import type { Route } from '../../model/kinds/route.ts';
import { ROUTE_PROTOCOL } from '../../model/linux-names.ts';
import { decodeRoute, deleteRoute, dumpRoutes, newRoute, type RouteEntry } from '../../netlink/route.ts';
import { RTM_DELROUTE, RTM_NEWROUTE, RTNLGRP } from '../../netlink/rtnetlink.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { type NetlinkStep, routeStep } from '../driver/steps.ts';
import type { LinkNameOf } from '../observe/observe-links.ts';
import type { Observer } from '../observe/observer.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { linkName, localName, netnsNames } from './kernel-rules.ts';
import type { LinuxKind, OpOf } from './kind.ts';
import { dumpRouting } from './routing.ts';

/** Metric of an IPv6 route for which none was given (include/net/ip6_fib.h). */
const IP6_RT_PRIO_USER = 1024;
/** Device of a route without one, such as an IPv4 blackhole. */
const NO_DEVICE = 'none';

const observeRoutes: Observer = async (scan) => {
  const nameOf = await scan.view.linkNameOf(scan.netns);
  const found = new Map<string, Route>();
  for (const family of ['inet', 'inet6'] as const) {
    const messages = await dumpRouting(scan, dumpRoutes({ family, protocol: ROUTE_PROTOCOL }));
    for (const entry of decodeAll(messages, decodeRoute)) {
      if (entry.family !== family) continue;
      const route = routeObject(scan.netns, entry, nameOf);
      if (route === undefined) continue;
      const key = keyOf(route);
      const twin = found.get(key);
      found.set(key, twin === undefined ? route : { ...twin, foreign: [...oddities(twin), ...oddities(route)] });
    }
  }
  return [...found.values()];
};

/** A route with our protocol number. */
export const routeKind: LinuxKind<'route'> = {
  steps(op: OpOf<'route'>) {
    const { object } = op;
    const previous = op.verb === 'change' ? op.before : object;
    if (op.verb === 'create' || previous.foreign === undefined) return [requestStep(op.verb, object)];
    // Others in its place may differ in anything but these three, so each is deleted by them.
    const { netns, destination, table, foreign } = previous;
    const removal = routeStep(netns, () => deleteRoute({ destination, table, protocol: ROUTE_PROTOCOL }));
    const removals = foreign.map(() => removal);
    return op.verb === 'delete' ? removals : [...removals, requestStep('create', object)];
  },
  observer: observeRoutes,
  events: {
    source: 'rtnetlink',
    groups: [RTNLGRP.ipv4Route, RTNLGRP.ipv6Route],
    inHost: true,
    types: [RTM_NEWROUTE, RTM_DELROUTE],
    complete: true,
    decode(netns, message, nameOf) {
      const entry = decodeRoute(message);
      if (!entry.ok || entry.value.cloned) return [];
      const { destination, table } = entry.value;
      const identity = { kind: 'route', netns, destination, table } as const;
      const key = keyOf({ ...identity, type: 'unicast', dev: '', onlink: false, scope: 'global' });
      const object = message.type === RTM_DELROUTE ? undefined : routeObject(netns, entry.value, nameOf);
      return [{ of: 'object', kind: 'route', key, object }];
    },
  },
  audit: 'notified',
  related: ['link', 'network'],
  failures: ERRNO_CODES,
  rules: {
    livesIn({ netns, dev, destination, source }) {
      const inside = [...netnsNames(netns), linkName(netns, dev)];
      // Losing its preferred source ends an IPv4 route (fib_sync_down_addr); IPv6 only forgets the source.
      return source === undefined || familyOf(destination) === 'inet6' ? inside : [...inside, localName(netns, source)];
    },
    refusal({ netns, dev, via, source, onlink }, view) {
      if (!view.exists(linkName(netns, dev))) return 'ENOENT';
      if (source !== undefined && !view.exists(localName(netns, source))) return 'EINVAL';
      if (via === undefined || onlink) return undefined;
      for (const other of view.objects()) {
        if (other.kind !== 'route' || other.netns !== netns || other.dev !== dev || other.via !== undefined) continue;
        if (other.destination.startsWith(`${via}/`)) return undefined;
      }
      return 'ENETUNREACH';
    },
  },
};

function requestStep(verb: OpOf<'route'>['verb'], object: Route): NetlinkStep {
  const { netns, destination, table, dev, via, onlink, scope, source, type } = object;
  return routeStep(
    netns,
    ({ index }) => {
      const spec = {
        destination,
        table,
        type,
        via,
        onlink,
        scope,
        source,
        protocol: ROUTE_PROTOCOL,
        index: index(dev),
      };
      return verb === 'delete' ? deleteRoute(spec) : newRoute(spec, verb === 'change' ? 'replace' : 'create');
    },
    [dev],
  );
}

/** Undefined for routes of other protocols and for clones of the IPv6 routing cache. */
function routeObject(netns: string, entry: RouteEntry, nameOf: LinkNameOf): Route | undefined {
  if (entry.protocol !== ROUTE_PROTOCOL || entry.cloned) return undefined;
  const { destination, table, type, scope, onlink, via, source, index } = entry;
  const dev = index === undefined ? undefined : nameOf(index);
  const oddity = oddityOf(entry, dev);
  return {
    kind: 'route',
    netns,
    type: type === 'local' ? 'local' : 'unicast',
    destination,
    table,
    dev: dev ?? (index === undefined ? NO_DEVICE : `if${index}`),
    ...(via === undefined ? {} : { via }),
    onlink,
    scope: scope === 'link' || scope === 'host' ? scope : 'global',
    ...(source === undefined ? {} : { source }),
    ...(oddity === undefined ? {} : { foreign: [oddity] }),
  };
}

/** How a route differs from all that meshd makes: other types, metrics, several next hops, links that are not ours. */
function oddityOf(
  { family, type, priority, nextHops, index }: RouteEntry,
  dev: string | undefined,
): string | undefined {
  const words: string[] = [];
  if (type !== 'local' && type !== 'unicast') words.push(typeof type === 'number' ? `type ${type}` : type);
  if (priority !== (family === 'inet' ? undefined : IP6_RT_PRIO_USER)) words.push(`metric ${priority ?? 0}`);
  if (nextHops > 1) words.push(`${nextHops} nexthops`);
  if (dev === undefined) words.push(index === undefined ? 'no dev' : `dev if${index}`);
  return words.length === 0 ? undefined : words.join(' ');
}

/** One entry for each of several routes to one destination, which differ in their metric. */
function oddities({ foreign, destination }: Route): readonly string[] {
  return foreign ?? [`metric ${familyOf(destination) === 'inet' ? 0 : IP6_RT_PRIO_USER}`];
}
