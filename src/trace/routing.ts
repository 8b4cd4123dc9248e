import ipaddr from 'ipaddr.js';
import { familyOf, type IpAddress } from '../model/address.ts';
import { isWithin } from '../model/block.ts';
import type { KernelState } from '../model/kernel-state.ts';
import { fdbKey } from '../model/kinds/fdb.ts';
import { neighbourKey } from '../model/kinds/neighbour.ts';
import type { Route } from '../model/kinds/route.ts';
import type { Rule } from '../model/kinds/rule.ts';

/** Number of the table `main` (RT_TABLE_MAIN in include/uapi/linux/rtnetlink.h), and the priority of its rule. */
const MAIN = { table: 254, priority: 32_766 } as const;

/** The route that the kernel selects, with the rule of ours that selected its table, if any. */
export interface RouteMatch {
  route: Route;
  rule?: Rule;
}

/** Walks the rules in the order of their priorities, `goto` included, then looks for the longest prefix. */
export function findRoute(
  state: KernelState,
  packet: { netns: string; destination: IpAddress; mark: number },
): RouteMatch | undefined {
  const { netns, destination, mark } = packet;
  const rules = rulesFor(state, netns, destination);
  const routes = routesFor(state, netns, destination);
  let minPriority = 0;
  for (const rule of rules) {
    if (rule.priority < minPriority || ((mark ^ rule.fwmark) & rule.fwmask) !== 0) continue;
    if (rule.action === 'nop') continue;
    if ('goto' in rule.action) {
      minPriority = rule.action.goto;
      if (minPriority >= MAIN.priority) break;
      continue;
    }
    const route = longestPrefixMatch(routes, rule.action.lookup);
    if (route !== undefined) return { route, rule };
  }
  const route = longestPrefixMatch(routes, MAIN.table);
  return route === undefined ? undefined : { route };
}

function rulesFor(state: KernelState, netns: string, destination: IpAddress): Rule[] {
  const family = familyOf(destination);
  const rules: Rule[] = [];
  for (const object of state.values()) {
    // Rules with selectors of other programs cannot be evaluated; ours never depend on them.
    if (object.foreign !== undefined) continue;
    if (object.kind === 'rule' && object.netns === netns && object.family === family) rules.push(object);
  }
  return rules.sort((a, b) => a.priority - b.priority);
}

function routesFor(state: KernelState, netns: string, destination: IpAddress): Route[] {
  const routes: Route[] = [];
  for (const object of state.values()) {
    if (object.kind === 'route' && object.netns === netns && isWithin(destination, object.destination)) {
      routes.push(object);
    }
  }
  return routes;
}

function longestPrefixMatch(routes: readonly Route[], table: number): Route | undefined {
  const prefix = (route: Route) => ipaddr.parseCIDR(route.destination)[1];
  return routes
    .filter((route) => route.table === table)
    .reduce<Route | undefined>((best, route) => (best && prefix(best) >= prefix(route) ? best : route), undefined);
}

/** Where a VXLAN device sends what is routed to a VTEP: neighbour, then FDB; undefined parts are missing. */
export function findTunnel(state: KernelState, netns: string, dev: string, vtep: IpAddress) {
  const neighbour = state.get(neighbourKey(netns, dev, vtep));
  if (neighbour?.kind !== 'neighbour') return {};
  const entry = state.get(fdbKey(netns, dev, neighbour.mac));
  return entry?.kind === 'fdb' ? { neighbour, entry } : { neighbour };
}
