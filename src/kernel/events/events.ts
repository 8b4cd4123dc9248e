import { sameValue } from '../../model/equality.ts';
import { keyOf } from '../../model/kernel-state.ts';
import type { NetlinkMessage } from '../../netlink/message.ts';
import type { ObservedCache } from '../driver/observed-cache.ts';
import type { KernelEvent, LinkEnd, RouteEvents } from '../kinds/kind.ts';
import { allKinds, LINUX_KINDS, linksOf } from '../kinds/registry.ts';
import type { LinkNameOf } from '../observe/observe-links.ts';

/** What rtnetlink announces, each source once. */
const ROUTE_EVENTS: ReadonlySet<RouteEvents> = new Set(
  allKinds().flatMap((kind) => {
    const { events } = LINUX_KINDS[kind];
    return events?.source === 'rtnetlink' ? [events] : [];
  }),
);

const BY_TYPE: ReadonlyMap<number, readonly RouteEvents[]> = groupByType(ROUTE_EVENTS);

/** Multicast groups of rtnetlink to subscribe to. */
export function eventGroups(inHost: boolean): number[] {
  const groups = [...ROUTE_EVENTS].filter((events) => events.inHost || !inHost).flatMap((events) => events.groups);
  return [...new Set(groups)];
}

/** The objects of ours that a message of a netns is about; empty for most in the host. */
export function decodeEvents(netns: string, message: NetlinkMessage, nameOf: LinkNameOf): KernelEvent[] {
  const events: KernelEvent[] = [];
  for (const { decode } of BY_TYPE.get(message.type) ?? []) events.push(...decode(netns, message, nameOf));
  return events;
}

function groupByType(sources: Iterable<RouteEvents>): Map<number, RouteEvents[]> {
  const byType = new Map<number, RouteEvents[]>();
  for (const source of sources) {
    for (const type of source.types) byType.set(type, [...(byType.get(type) ?? []), source]);
  }
  return byType;
}

/** Whether an object event differs from the cache. */
export function isObjectChange(cache: ObservedCache, event: KernelEvent & { of: 'object' }): boolean {
  const before = cache.get(event.key);
  // Every netns has all sysctls; only those that were observed matter.
  if (event.object?.kind === 'sysctl' && before === undefined) return false;
  return !sameValue(before, event.object);
}

/** A known link in the form of an event that would not be a change. */
export interface ObservedLink {
  /** Netns that its object belongs to; the far end of a pair is itself in another. */
  ownerNetns: string;
  end: LinkEnd;
}

/** Known links by `netns name`. */
export function observedLinks(cache: ObservedCache): Map<string, ObservedLink> {
  const links = new Map<string, ObservedLink>();
  for (const object of cache.values()) {
    for (const end of linksOf(object)) links.set(`${end.netns} ${end.name}`, { ownerNetns: object.netns, end });
  }
  return links;
}

/** Whether a link event differs from the cache. Of unknown links only the types that meshd creates count. */
export function isLinkChange(
  netns: string,
  event: KernelEvent & { of: 'link' },
  cache: ObservedCache,
  known: LinkEnd | undefined,
): boolean {
  const { up, mtu, mac, kind, index } = event.link;
  if (index === 1) {
    const self = cache.get(keyOf({ kind: 'netns', netns, loopbackUp: true }));
    return self?.kind === 'netns' && self.loopbackUp !== up;
  }
  if (known === undefined) return !event.removed && (kind === 'veth' || kind === 'vxlan');
  if (event.removed) return true;
  return known.up !== up || known.mtu !== mtu || (known.mac !== undefined && known.mac !== mac);
}
