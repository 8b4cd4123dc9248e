import type { KernelObject, ObjectKind } from '../../model/kinds/registry.ts';
import type { ObservedCache } from '../driver/observed-cache.ts';
import type { Actor, Scope } from '../kernel.ts';
import type { KernelEvent } from '../kinds/kind.ts';
import { allKinds, kindsRelatedTo, LINUX_KINDS } from '../kinds/registry.ts';
import { isLinkChange, isObjectChange, type ObservedLink } from './events.ts';

/** Kinds that may have changed with a link of their netns. */
export const LINK_RELATED_KINDS = kindsRelatedTo('link');
const FIREWALL_KINDS = allKinds().filter((kind) => LINUX_KINDS[kind].events?.source === 'nf_tables');

/** What was received in one netns since the last evaluation. */
export interface PendingEvents {
  /** Events were dropped. */
  eventsLost: boolean;
  /** The latest event about each object, link or kind. */
  readonly latest: Map<string, KernelEvent>;
  /** The processes that caused it, by the same keys. */
  readonly actors: Map<string, Actor>;
  /** Links that were deleted, even if created again since. */
  readonly deletedLinks: Set<string>;
  /** An address or network has become local in this netns. */
  localAddressAdded: boolean;
  firewallChanged: boolean;
  readonly firewallActors: Actor[];
}

export function noPendingEvents(): PendingEvents {
  return {
    eventsLost: false,
    latest: new Map(),
    actors: new Map(),
    deletedLinks: new Set(),
    localAddressAdded: false,
    firewallChanged: false,
    firewallActors: [],
  };
}

export function hasPendingEvents(pending: PendingEvents): boolean {
  const { eventsLost, localAddressAdded, firewallChanged, latest } = pending;
  return eventsLost || localAddressAdded || firewallChanged || latest.size > 0;
}

/** Adds an event; it replaces earlier ones about the same thing. */
export function recordEvent(pending: PendingEvents, event: KernelEvent, actor: Actor | undefined): void {
  if (event.of === 'link' && event.removed) {
    pending.deletedLinks.add(event.name);
    // The kernel removes IPv4 routes with the link without events, so earlier ones about them are stale.
    for (const [key, earlier] of pending.latest) if (isOnLink(earlier, event.name)) pending.latest.delete(key);
  }
  const key = eventKey(event);
  pending.latest.set(key, event);
  if (actor !== undefined) pending.actors.set(key, actor);
}

function isOnLink(event: KernelEvent, link: string): boolean {
  const object: KernelObject | undefined = event.of === 'object' ? event.object : undefined;
  return object !== undefined && 'dev' in object && object.dev === link;
}

function eventKey(event: KernelEvent): string {
  if (event.of === 'link') return `link ${event.name}`;
  return event.of === 'object' ? event.key : `kind ${event.kind}`;
}

/** The changes, and the processes that caused them. */
export interface DetectedChanges {
  scopes: Scope[];
  by: Actor[];
}

/** Compares events of a netns with what is known; `ownLinks` are those that we created or deleted meanwhile. */
export function detectChanges(
  netns: string,
  pending: PendingEvents,
  cache: ObservedCache,
  links: ReadonlyMap<string, ObservedLink>,
  ownLinks: ReadonlySet<string>,
): DetectedChanges {
  if (pending.eventsLost) return { scopes: [{ netns: [netns] }], by: [] };
  const kinds = new Set<ObjectKind>();
  const scopes: Scope[] = [];
  const by: Actor[] = [];
  for (const [key, event] of pending.latest) {
    if (event.of === 'kind') kinds.add(event.kind);
    else if (event.of === 'object') {
      if (!isObjectChange(cache, event)) continue;
      kinds.add(event.kind);
    } else {
      const name = `${netns} ${event.name}`;
      const link = links.get(name);
      const recreated = pending.deletedLinks.has(event.name) && !ownLinks.has(name);
      if (!isLinkChange(netns, event, cache, link?.end) && !(recreated && link)) continue;
      for (const kind of LINK_RELATED_KINDS) kinds.add(kind);
      if (link && link.ownerNetns !== netns) scopes.push({ netns: [link.ownerNetns], kinds: LINK_RELATED_KINDS });
    }
    const actor = pending.actors.get(key);
    if (actor !== undefined) by.push(actor);
  }
  if (pending.firewallChanged) for (const kind of FIREWALL_KINDS) kinds.add(kind);
  by.push(...pending.firewallActors);
  return { scopes: kinds.size === 0 ? scopes : [{ netns: [netns], kinds: [...kinds] }, ...scopes], by };
}
