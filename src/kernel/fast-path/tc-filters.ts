import { FAST_PATH_PREFERENCE, HOST_NETNS } from '../../model/linux-names.ts';
import { decodeLink, getLink } from '../../netlink/link.ts';
import {
  decodeFilter,
  decodeQdisc,
  dumpFilters,
  dumpQdiscs,
  EGRESS,
  type Filter,
  INGRESS,
  isIngress,
} from '../../netlink/traffic-control.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { kernelErrorCode } from '../driver/exchange.ts';
import { NETLINK_ROUTE, type Transport } from '../driver/transport.ts';
import { isFastPathFilter } from './fast-path-programs.ts';

/*
 * Listing our tc filters. The kernel lists filters of one link at a time, so only links with a qdisc that could have any
 * are listed, and only at our preference.
 */

/** Filters at our preference on all links of a netns. */
export async function listFilters(transport: Transport, netns: string): Promise<Filter[]> {
  const filters: Filter[] = [];
  // Routers have one link per task, and no filter of ours for outgoing packets.
  const parents = netns === HOST_NETNS ? [INGRESS, EGRESS] : [INGRESS];
  for (const index of await linksWithIngress(transport, netns)) {
    for (const parent of parents) filters.push(...(await listLinkFilters(transport, netns, index, parent)));
  }
  return filters;
}

/** Those for packets of one direction: INGRESS or EGRESS. */
export async function listLinkFilters(
  transport: Transport,
  netns: string,
  index: number,
  parent: number,
): Promise<Filter[]> {
  const request = dumpFilters(index, parent, FAST_PATH_PREFERENCE);
  return decodeAll(await transport.dump(netns, NETLINK_ROUTE, request), decodeFilter).filter(isFastPathFilter);
}

async function linksWithIngress(transport: Transport, netns: string): Promise<number[]> {
  try {
    const qdiscs = await listQdiscs(transport, netns);
    return [...new Set(qdiscs.filter(isIngress).map(({ index }) => index))];
  } catch (thrown) {
    // A kernel without traffic control (CONFIG_NET_SCHED) has nothing of ours.
    if (kernelErrorCode(thrown) === 'EOPNOTSUPP') return [];
    throw thrown;
  }
}

/** Whether a link can have filters of both directions: the older qdisc `ingress` would take all as those of incoming packets. */
export async function hasClsact(transport: Transport, netns: string, index: number): Promise<boolean> {
  return (await listQdiscs(transport, netns)).some((qdisc) => qdisc.index === index && qdisc.kind === 'clsact');
}

async function listQdiscs(transport: Transport, netns: string) {
  return decodeAll(await transport.dump(netns, NETLINK_ROUTE, dumpQdiscs()), decodeQdisc);
}

/** Where tc has the filters of a direction. */
export function parentOf(egress = false): number {
  return egress ? EGRESS : INGRESS;
}

/** Whether anything is left on a link's clsact. */
export async function hasFilters(transport: Transport, netns: string, index: number): Promise<boolean> {
  for (const parent of [INGRESS, EGRESS]) {
    if ((await transport.dump(netns, NETLINK_ROUTE, dumpFilters(index, parent))).length > 0) return true;
  }
  return false;
}

/** Ifindexes of the links that exist. */
export async function resolveLinkIndexes(
  transport: Transport,
  netns: string,
  names: readonly string[],
): Promise<Map<string, number>> {
  const unique = [...new Set(names)];
  const outcomes = await transport.transact(
    netns,
    NETLINK_ROUTE,
    unique.map((name) => getLink({ name })),
  );
  const links = outcomes.flatMap((outcome) => (outcome.ok ? decodeAll(outcome.replies, decodeLink) : []));
  return new Map(links.map(({ name, index }) => [name, index]));
}

/** Names of links by number, asking for those that are not among the known. */
export async function resolveLinkNames(
  transport: Transport,
  netns: string,
  knownIndexes: ReadonlyMap<string, number>,
  indexes: ReadonlySet<number>,
): Promise<Map<number, string>> {
  const names = new Map(
    [...knownIndexes].filter(([, index]) => indexes.has(index)).map(([name, index]) => [index, name]),
  );
  const rest = [...indexes].filter((index) => !names.has(index));
  const outcomes = await transport.transact(
    netns,
    NETLINK_ROUTE,
    rest.map((index) => getLink({ index })),
  );
  for (const outcome of outcomes) {
    for (const { index, name } of outcome.ok ? decodeAll(outcome.replies, decodeLink) : []) names.set(index, name);
  }
  return names;
}
