import { type FSWatcher, watch as watchDirectory } from 'node:fs';
import { type NetlinkSocket, openNetlink } from '../../../native/index.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { type KernelObject, keyOf, type ObjectKind } from '../../model/kernel-state.ts';
import { HOST_NETNS } from '../../model/names.ts';
import { decodeMessages, type NetlinkMessage } from '../../netlink/message.ts';
import { RTNLGRP } from '../../netlink/rtnetlink.ts';
import { isTaskNetns, type Namespaces } from '../driver/namespaces.ts';
import type { ObservedCache } from '../driver/observed-cache.ts';
import { NETLINK_NETFILTER, NETLINK_ROUTE, type Transport } from '../driver/transport.ts';
import { createFirewallEventReader, type FirewallEventReader } from '../firewall/nf-tables.ts';
import type { Actor, Scope } from '../kernel.ts';
import { createLinkView } from '../observe/observe-links.ts';
import { actorFromPortId } from './actors.ts';
import {
  decodeEvents,
  isLinkChange,
  isObjectChange,
  isTrafficControl,
  type KernelEvent,
  observedLinks,
} from './events.ts';

/** Events come in bursts; this long, ms, after the first of them they are looked at together. */
const BATCH_DELAY = 20;
/** `ip netns add` makes the file first and mounts the namespace on it a moment later: pause between two looks, ms. */
const MOUNT_POLL_INTERVAL = 200;
const MAX_MOUNT_POLLS = 10;
const NFNLGRP_NFTABLES = 7;
/** A link that came or went takes these with it, often without events of their own. */
const KINDS_AFFECTED_BY_LINK: readonly ObjectKind[] = [
  'netns',
  'veth',
  'vxlan',
  'sysctl',
  'address',
  'neighbour',
  'fdb',
  'route',
  'fast-path',
  'fast-path-task',
];
const HOST_GROUPS = [
  RTNLGRP.link,
  RTNLGRP.ipv4Address,
  RTNLGRP.ipv6Address,
  RTNLGRP.ipv4Route,
  RTNLGRP.ipv6Route,
  RTNLGRP.ipv4Netconf,
  RTNLGRP.ipv6Netconf,
  RTNLGRP.trafficControl,
];
const NETNS_GROUPS = [...HOST_GROUPS, RTNLGRP.neighbour, RTNLGRP.ipv4Rule, RTNLGRP.ipv6Rule];

export interface WatchContext {
  transport: Transport;
  namespaces: Namespaces;
  cache: ObservedCache;
  log: Log;
  /** An apply is running: what it did is not yet in `known`. */
  isApplying(): boolean;
  /** Links that applies made or deleted since the last call, as `netns name`. */
  takeOwnLinks(): Set<string>;
  /** Whether iptables ran as this process for us. */
  isOwnProcess(pid: number): boolean;
}

/** Calls back with what changed in the host and in every netns of ours, and not by us. */
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
        log.warn({ error: messageOf(thrown) }, 'watching the kernel failed, everything counts as changed');
        onChange({}, []);
      }
    }, delay);
    timer.unref();
  }

  /** Listens in every netns that is there, and lets go of those that are not. */
  function followNamespaces(): Scope[] {
    const scopes: Scope[] = [];
    const present = new Map([HOST_NETNS, ...namespaces.list()].map((netns) => [netns, namespaces.identity(netns)]));
    for (const [netns, ear] of handlers) {
      if (present.get(netns) === ear.identity) continue;
      ear.close();
      handlers.delete(netns);
      transport.closeNetns(netns);
      if (!isKnownNetns(netns) && !present.has(netns)) continue;
      scopes.push({ netns: [netns] });
      const around = peerNamespacesOf(netns);
      if (around.length > 0) scopes.push({ netns: around, kinds: KINDS_AFFECTED_BY_LINK });
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
        log.debug({ netns, error: messageOf(thrown) }, 'cannot listen in this netns, it may be gone already');
      }
    }
    return scopes;
  }

  function isKnownNetns(netns: string): boolean {
    return netns === HOST_NETNS || cache.get(keyOf({ kind: 'netns', netns, loopbackUp: true })) !== undefined;
  }

  /** Netns at the other end of known veth pairs. */
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
    for (const [netns, ear] of handlers) {
      const { scopes, by } = detectChanges(netns, ear.takeEvents(), cache, links, own);
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
    for (const ear of handlers.values()) ear.close();
    handlers.clear();
  };
}

/** What was heard in one netns since it was last asked. */
interface PendingEvents {
  /** Events were dropped. */
  eventsLost: boolean;
  /** The last word on each object, link or kind. */
  last: Map<string, KernelEvent>;
  /** Who had it, by the same keys. */
  actors: Map<string, Actor>;
  /** Links that were deleted, whatever came after. */
  deleted: Set<string>;
  firewall: boolean;
  /** Who changed the firewall. */
  firewallActors: Actor[];
}

/** What of it nobody knew, and whose doing that was. */
interface DetectedChanges {
  scopes: Scope[];
  by: Actor[];
}

function detectChanges(
  netns: string,
  pending: PendingEvents,
  cache: ObservedCache,
  links: ReturnType<typeof observedLinks>,
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
      const remade = pending.deleted.has(event.name) && !ownLinks.has(name);
      if (!isLinkChange(netns, event, cache, link) && !(remade && link)) continue;
      for (const kind of KINDS_AFFECTED_BY_LINK) kinds.add(kind);
      if (link && link.netns !== netns) scopes.push({ netns: [link.netns], kinds: KINDS_AFFECTED_BY_LINK });
    }
    if (actor !== undefined) by.push(actor);
  }
  if (pending.firewall) for (const kind of ['chain', 'jump'] as const) kinds.add(kind);
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
  /** Names of links have to be known before events about them can be read. */
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
    // Filters are not compared with what is known: told of our own doing, we would look at it again.
    if (isTrafficControl(message) && context.transport.isOwnSocket(netns, NETLINK_ROUTE, message.portId)) return;
    for (const sight of decodeEvents(netns, message, (index) => names.get(index))) recordEvent(sight, message.portId);
  }

  function recordEvent(sight: KernelEvent, portId: number): void {
    if (sight.of === 'link') {
      if (sight.removed) {
        names.delete(sight.link.index);
        pending.deleted.add(sight.name);
        // The kernel takes IPv4 routes down without a word, so what was said of them before is stale.
        for (const [key, { object }] of objectEvents(pending.last)) {
          if ('dev' in object && object.dev === sight.name) pending.last.delete(key);
        }
      } else names.set(sight.link.index, sight.name);
    }
    const key = sight.of === 'link' ? `link ${sight.name}` : sight.of === 'object' ? sight.key : `kind ${sight.kind}`;
    pending.last.set(key, sight);
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
