import { type FSWatcher, watch as watchDirectory } from 'node:fs';
import { type NetlinkSocket, openNetlink } from '../../../native/index.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { type KernelObject, keyOf, type ObjectKind } from '../../model/kernel-state.ts';
import { HOST_NETNS } from '../../model/names.ts';
import { decodeMessages, type NetlinkMessage } from '../../netlink/message.ts';
import { isTaskNetns, type Namespaces } from '../driver/namespaces.ts';
import type { ObservedCache } from '../driver/observed-cache.ts';
import { NETLINK_NETFILTER, NETLINK_ROUTE, type Transport } from '../driver/transport.ts';
import { createFirewallEventReader, type FirewallEventReader } from '../firewall/nf-tables.ts';
import type { Actor, Scope } from '../kernel.ts';
import type { KernelEvent } from '../kinds/kind.ts';
import { allKinds, kindsRelatedTo, LINUX_KINDS } from '../kinds/registry.ts';
import { createLinkView } from '../observe/observe-links.ts';
import { actorFromPortId } from './actors.ts';
import { decodeEvents, eventGroups, isLinkChange, isObjectChange, type ObservedLink, observedLinks } from './events.ts';

/** Events come in bursts; they are evaluated together this long, ms, after the first. */
const BATCH_DELAY = 20;
/** `ip netns add` creates the file first and mounts the namespace on it a moment later: time between two checks, ms. */
const MOUNT_POLL_INTERVAL = 200;
const MAX_MOUNT_POLLS = 10;
const NFNLGRP_NFTABLES = 7;
const LINK_RELATED_KINDS = kindsRelatedTo('link');
const FIREWALL_KINDS = allKinds().filter((kind) => LINUX_KINDS[kind].events?.source === 'nf_tables');
const HOST_GROUPS = eventGroups(true);
const NETNS_GROUPS = eventGroups(false);

export interface WatchContext {
  transport: Transport;
  namespaces: Namespaces;
  cache: ObservedCache;
  log: Log;
  /** An apply is running: what it did is not yet in the cache. */
  isApplying(): boolean;
  /** Links that applies created or deleted since the last call, as `netns name`. */
  takeOwnLinks(): Set<string>;
  /** Whether this process was an iptables run of ours. */
  isOwnProcess(pid: number): boolean;
}

/** Calls back with what others changed in the host and in every netns of ours. */
export function startWatch(context: WatchContext, onChange: (scope: Scope, by: readonly Actor[]) => void): () => void {
  const { namespaces, transport, cache, log } = context;
  const handlers = new Map<string, EventHandler>();
  let timer: NodeJS.Timeout | undefined;
  let tries = 0;
  let closed = false;

  function scheduleReport(delay = BATCH_DELAY): void {
    if (closed || timer) return;
    timer = setTimeout(() => {
      timer = undefined;
      try {
        if (context.isApplying()) scheduleReport();
        else reportChanges();
      } catch (thrown) {
        log.warn({ error: messageOf(thrown) }, 'cannot evaluate kernel events; treating everything as changed');
        onChange({}, []);
      }
    }, delay);
    timer.unref();
  }

  /** Subscribes in every netns that exists, and closes the sockets of those that do not. */
  function followNamespaces(): Scope[] {
    const scopes: Scope[] = [];
    const present = new Map([HOST_NETNS, ...namespaces.list()].map((netns) => [netns, namespaces.identity(netns)]));
    for (const [netns, handler] of handlers) {
      if (present.get(netns) === handler.identity) continue;
      handler.close();
      handlers.delete(netns);
      transport.closeNetns(netns);
      if (!isKnownNetns(netns) && !present.has(netns)) continue;
      scopes.push({ netns: [netns] });
      const around = peerNamespacesOf(netns);
      if (around.length > 0) scopes.push({ netns: around, kinds: LINK_RELATED_KINDS });
    }
    for (const [netns, identity] of present) {
      if (handlers.has(netns) || identity === undefined) continue;
      try {
        handlers.set(
          netns,
          openEventHandler(context, netns, identity, () => scheduleReport()),
        );
        if (netns !== HOST_NETNS && !isKnownNetns(netns)) scopes.push({ netns: [netns] });
      } catch (thrown) {
        log.debug(
          { netns, error: messageOf(thrown) },
          'cannot subscribe to events in this netns; it may have been removed',
        );
      }
    }
    return scopes;
  }

  function isKnownNetns(netns: string): boolean {
    return netns === HOST_NETNS || cache.get(keyOf({ kind: 'netns', netns, loopbackUp: true })) !== undefined;
  }

  /** Namespaces at the other end of known veth pairs. */
  function peerNamespacesOf(netns: string): string[] {
    const found = new Set<string>();
    for (const object of cache.values()) {
      if (object.kind === 'veth' && object.peer.netns === netns) found.add(object.netns);
    }
    return [...found];
  }

  function reportChanges(): void {
    const own = context.takeOwnLinks();
    const links = observedLinks(cache);
    for (const [netns, handler] of handlers) {
      const { scopes, by } = detectChanges(netns, handler.takeEvents(), cache, links, own);
      for (const scope of scopes) onChange(scope, by);
    }
    for (const scope of followNamespaces()) onChange(scope, []);
  }

  const directory: FSWatcher = watchDirectory(namespaces.runDir, { persistent: false }, () => {
    tries = MAX_MOUNT_POLLS;
    scheduleReport();
    pollMounts();
  });
  directory.on('error', (error) => log.warn({ error: error.message }, `cannot watch ${namespaces.runDir}`));

  function pollMounts(): void {
    const later = setTimeout(() => {
      scheduleReport();
      if (namespaces.hasUnmountedFiles() && --tries > 0) pollMounts();
    }, MOUNT_POLL_INTERVAL);
    later.unref();
  }

  followNamespaces();
  return () => {
    closed = true;
    clearTimeout(timer);
    directory.close();
    for (const handler of handlers.values()) handler.close();
    handlers.clear();
  };
}

/** What was received in one netns since the last evaluation. */
interface PendingEvents {
  /** Events were dropped. */
  eventsLost: boolean;
  /** The latest event about each object, link or kind. */
  last: Map<string, KernelEvent>;
  /** Who caused it, by the same keys. */
  actors: Map<string, Actor>;
  /** Links that were deleted, even if created again since. */
  deleted: Set<string>;
  firewall: boolean;
  /** Who changed the firewall. */
  firewallActors: Actor[];
}

/** What of it is news, and who caused that. */
interface DetectedChanges {
  scopes: Scope[];
  by: Actor[];
}

function detectChanges(
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
  for (const [key, event] of pending.last) {
    const actor = pending.actors.get(key);
    if (event.of === 'kind') kinds.add(event.kind);
    else if (event.of === 'object') {
      if (!isObjectChange(cache, event)) continue;
      kinds.add(event.key.split(' ', 1)[0] as ObjectKind);
    } else {
      const name = `${netns} ${event.name}`;
      const link = links.get(name);
      const recreated = pending.deleted.has(event.name) && !ownLinks.has(name);
      if (!isLinkChange(netns, event, cache, link?.end) && !(recreated && link)) continue;
      for (const kind of LINK_RELATED_KINDS) kinds.add(kind);
      if (link && link.ownerNetns !== netns) scopes.push({ netns: [link.ownerNetns], kinds: LINK_RELATED_KINDS });
    }
    if (actor !== undefined) by.push(actor);
  }
  if (pending.firewall) for (const kind of FIREWALL_KINDS) kinds.add(kind);
  by.push(...pending.firewallActors);
  return { scopes: kinds.size === 0 ? scopes : [{ netns: [netns], kinds: [...kinds] }, ...scopes], by };
}

interface EventHandler {
  readonly identity: string;
  takeEvents(): PendingEvents;
  close(): void;
}

/** The event sockets of one netns. */
function openEventHandler(context: WatchContext, netns: string, identity: string, wake: () => void): EventHandler {
  const names = new Map<number, string>();
  let pending = noEvents();
  /** Events that arrive before the names of links are known; undefined afterwards. */
  let buffered: NetlinkMessage[] | undefined = [];
  const path = context.namespaces.path(netns);

  function listen(
    protocol: number,
    groups: readonly number[],
    onMessage: (message: NetlinkMessage) => void,
  ): NetlinkSocket {
    const socket = openNetlink({ netns: path, protocol, groups }, (event) => {
      if (event.type !== 'data') pending.eventsLost = true;
      else {
        for (const datagram of event.messages) {
          const decoded = decodeMessages(datagram);
          if (decoded.ok) decoded.value.forEach(onMessage);
          else pending.eventsLost = true;
        }
      }
      if (pending.eventsLost || pending.firewall || pending.last.size > 0) wake();
    });
    return socket.unref();
  }

  function handleMessage(message: NetlinkMessage): void {
    if (buffered) {
      buffered.push(message);
      return;
    }
    for (const event of decodeEvents(netns, message, (index) => names.get(index))) {
      // An event that names no object cannot be compared with what is known.
      if (event.of === 'kind' && context.transport.isOwnSocket(netns, NETLINK_ROUTE, message.portId)) continue;
      recordEvent(event, message.portId);
    }
  }

  function recordEvent(event: KernelEvent, portId: number): void {
    if (event.of === 'link') {
      if (event.removed) {
        names.delete(event.link.index);
        pending.deleted.add(event.name);
        // The kernel removes IPv4 routes with the link without events, so earlier ones about them are stale.
        for (const [key, { object }] of objectEvents(pending.last)) {
          if ('dev' in object && object.dev === event.name) pending.last.delete(key);
        }
      } else names.set(event.link.index, event.name);
    }
    const key = event.of === 'link' ? `link ${event.name}` : event.of === 'object' ? event.key : `kind ${event.kind}`;
    pending.last.set(key, event);
    const actor = actorFromPortId(portId);
    if (actor !== undefined) pending.actors.set(key, actor);
  }

  const sockets = [listen(NETLINK_ROUTE, netns === HOST_NETNS ? HOST_GROUPS : NETNS_GROUPS, handleMessage)];
  if (!isTaskNetns(netns)) {
    const firewall: FirewallEventReader = createFirewallEventReader(context.isOwnProcess);
    sockets.push(
      listen(NETLINK_NETFILTER, [NFNLGRP_NFTABLES], (message) => {
        const foreign = firewall.foreignChange(message);
        if (foreign === undefined) return;
        pending.firewall = true;
        if (foreign.by !== undefined) pending.firewallActors.push(foreign.by);
      }),
    );
  }
  void createLinkView(context.transport, context.namespaces)
    .linksOf(netns)
    .then(
      (links) => {
        for (const { index, name } of links) names.set(index, name);
      },
      () => {
        pending.eventsLost = true;
      },
    )
    .then(() => {
      const waiting = buffered ?? [];
      buffered = undefined;
      waiting.forEach(handleMessage);
      if (pending.eventsLost || pending.last.size > 0) wake();
    });
  return {
    identity,
    takeEvents() {
      const events = pending;
      pending = noEvents();
      return events;
    },
    close() {
      for (const socket of sockets) socket.close();
    },
  };
}

function objectEvents(events: ReadonlyMap<string, KernelEvent>): [string, { object: KernelObject }][] {
  return [...events].flatMap(([key, event]) =>
    event.of === 'object' && event.object !== undefined ? [[key, { object: event.object }]] : [],
  );
}

function noEvents(): PendingEvents {
  return {
    eventsLost: false,
    last: new Map(),
    actors: new Map(),
    deleted: new Set(),
    firewall: false,
    firewallActors: [],
  };
}
