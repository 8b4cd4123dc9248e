import { type FSWatcher, watch as watchDirectory } from 'node:fs';
import { type NetlinkSocket, openNetlink } from '../../native/index.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type KernelObject, keyOf, type ObjectKind } from '../model/kernel-state.ts';
import { HOST_NETNS } from '../model/names.ts';
import { decodeMessages, type NetlinkMessage } from '../netlink/message.ts';
import { RTNLGRP } from '../netlink/rtnetlink.ts';
import { readActor } from './actors.ts';
import { isLinkNews, isNews, isTrafficControl, knownLinks, readEvent, type Sighting } from './events.ts';
import type { Actor, Scope } from './kernel.ts';
import type { Known } from './known.ts';
import { isTaskNetns, type Namespaces } from './namespaces.ts';
import { type FirewallEvents, firewallEvents } from './nf-tables.ts';
import { viewLinks } from './observe-links.ts';
import { NETLINK_NETFILTER, NETLINK_ROUTE, type Transport } from './transport.ts';

/** Events come in bursts; this long, ms, after the first of them they are looked at together. */
const GATHER = 20;
/** `ip netns add` makes the file first and mounts the namespace on it a moment later: pause between two looks, ms. */
const SETTLE = 200;
const SETTLE_TRIES = 10;
const NFNLGRP_NFTABLES = 7;
/** A link that came or went takes these with it, often without events of their own. */
const ON_LINK_CHANGE: readonly ObjectKind[] = [
  'netns',
  'veth',
  'vxlan',
  'sysctl',
  'address',
  'neighbour',
  'fdb',
  'route',
  'shortcut',
  'shortcut-task',
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

export interface Watched {
  transport: Transport;
  namespaces: Namespaces;
  known: Known;
  log: Log;
  /** An apply is running: what it did is not yet in `known`. */
  busy(): boolean;
  /** Links that applies made or deleted since the last call, as `netns name`. */
  takeOwnLinks(): Set<string>;
  /** Whether iptables ran as this process for us. */
  isOwnProcess(pid: number): boolean;
}

/** Calls back with what changed in the host and in every netns of ours, and not by us. */
export function openWatch(watched: Watched, onChange: (scope: Scope, by: readonly Actor[]) => void): () => void {
  const { namespaces, transport, known, log } = watched;
  const ears = new Map<string, Ear>();
  let timer: NodeJS.Timeout | undefined;
  let tries = 0;
  let closed = false;

  function wake(delay = GATHER): void {
    if (closed || timer) return;
    timer = setTimeout(() => {
      timer = undefined;
      try {
        if (watched.busy()) wake();
        else tell();
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
    for (const [netns, ear] of ears) {
      if (present.get(netns) === ear.identity) continue;
      ear.close();
      ears.delete(netns);
      transport.forget(netns);
      if (!knows(netns) && !present.has(netns)) continue;
      scopes.push({ netns: [netns] });
      const around = neighboursOf(netns);
      if (around.length > 0) scopes.push({ netns: around, kinds: ON_LINK_CHANGE });
    }
    for (const [netns, identity] of present) {
      if (ears.has(netns) || identity === undefined) continue;
      try {
        ears.set(
          netns,
          openEar(watched, netns, identity, () => wake()),
        );
        if (netns !== HOST_NETNS && !knows(netns)) scopes.push({ netns: [netns] });
      } catch (thrown) {
        log.debug({ netns, error: messageOf(thrown) }, 'cannot listen in this netns, it may be gone already');
      }
    }
    return scopes;
  }

  function knows(netns: string): boolean {
    return netns === HOST_NETNS || known.get(keyOf({ kind: 'netns', netns, loopbackUp: true })) !== undefined;
  }

  /** Netns at the other end of known veth pairs. */
  function neighboursOf(netns: string): string[] {
    const found = new Set<string>();
    for (const object of known.values()) {
      if (object.kind === 'veth' && object.peer.netns === netns) found.add(object.netns);
    }
    return [...found];
  }

  function tell(): void {
    const own = watched.takeOwnLinks();
    const links = knownLinks(known);
    for (const [netns, ear] of ears) {
      const { scopes, by } = newsIn(netns, ear.take(), known, links, own);
      for (const scope of scopes) onChange(scope, by);
    }
    for (const scope of followNamespaces()) onChange(scope, []);
  }

  const directory: FSWatcher = watchDirectory(namespaces.runDir, { persistent: false }, () => {
    tries = SETTLE_TRIES;
    wake();
    settle();
  });
  directory.on('error', (error) => log.warn({ error: error.message }, `cannot watch ${namespaces.runDir}`));

  function settle(): void {
    const later = setTimeout(() => {
      wake();
      if (namespaces.unsettled() && --tries > 0) settle();
    }, SETTLE);
    later.unref();
  }

  followNamespaces();
  return () => {
    closed = true;
    clearTimeout(timer);
    directory.close();
    for (const ear of ears.values()) ear.close();
    ears.clear();
  };
}

/** What was heard in one netns since it was last asked. */
interface Heard {
  /** Events were dropped. */
  lost: boolean;
  /** The last word on each object, link or kind. */
  last: Map<string, Sighting>;
  /** Who had it, by the same keys. */
  actors: Map<string, Actor>;
  /** Links that were deleted, whatever came after. */
  deleted: Set<string>;
  firewall: boolean;
  /** Who changed the firewall. */
  filterers: Actor[];
}

/** What of it nobody knew, and whose doing that was. */
interface News {
  scopes: Scope[];
  by: Actor[];
}

function newsIn(
  netns: string,
  heard: Heard,
  known: Known,
  links: ReturnType<typeof knownLinks>,
  own: ReadonlySet<string>,
): News {
  if (heard.lost) return { scopes: [{ netns: [netns] }], by: [] };
  const kinds = new Set<ObjectKind>();
  const scopes: Scope[] = [];
  const by: Actor[] = [];
  for (const [key, sight] of heard.last) {
    const actor = heard.actors.get(key);
    if (sight.of === 'kind') kinds.add(sight.kind);
    else if (sight.of === 'object') {
      if (!isNews(known, sight)) continue;
      kinds.add(sight.key.split(' ', 1)[0] as ObjectKind);
    } else {
      const name = `${netns} ${sight.name}`;
      const link = links.get(name);
      const remade = heard.deleted.has(sight.name) && !own.has(name);
      if (!isLinkNews(netns, sight, known, link) && !(remade && link)) continue;
      for (const kind of ON_LINK_CHANGE) kinds.add(kind);
      if (link && link.netns !== netns) scopes.push({ netns: [link.netns], kinds: ON_LINK_CHANGE });
    }
    if (actor !== undefined) by.push(actor);
  }
  if (heard.firewall) for (const kind of ['chain', 'jump'] as const) kinds.add(kind);
  by.push(...heard.filterers);
  return { scopes: kinds.size === 0 ? scopes : [{ netns: [netns], kinds: [...kinds] }, ...scopes], by };
}

interface Ear {
  readonly identity: string;
  take(): Heard;
  close(): void;
}

/** The event sockets of one netns. */
function openEar(watched: Watched, netns: string, identity: string, wake: () => void): Ear {
  const names = new Map<number, string>();
  let heard = silence();
  /** Names of links have to be known before events about them can be read. */
  let early: NetlinkMessage[] | undefined = [];
  const path = watched.namespaces.path(netns);

  function listen(
    protocol: number,
    groups: readonly number[],
    onMessage: (message: NetlinkMessage) => void,
  ): NetlinkSocket {
    const socket = openNetlink({ netns: path, protocol, groups }, (event) => {
      if (event.type !== 'data') heard.lost = true;
      else {
        for (const datagram of event.messages) {
          const decoded = decodeMessages(datagram);
          if (decoded.ok) decoded.value.forEach(onMessage);
          else heard.lost = true;
        }
      }
      if (heard.lost || heard.firewall || heard.last.size > 0) wake();
    });
    return socket.unref();
  }

  function hear(message: NetlinkMessage): void {
    if (early) {
      early.push(message);
      return;
    }
    // Filters are not compared with what is known: told of our own doing, we would look at it again.
    if (isTrafficControl(message) && watched.transport.isOwn(netns, NETLINK_ROUTE, message.portId)) return;
    for (const sight of readEvent(netns, message, (index) => names.get(index))) remember(sight, message.portId);
  }

  function remember(sight: Sighting, portId: number): void {
    if (sight.of === 'link') {
      if (sight.gone) {
        names.delete(sight.link.index);
        heard.deleted.add(sight.name);
        // The kernel takes IPv4 routes down without a word, so what was said of them before is stale.
        for (const [key, { object }] of objectsIn(heard.last)) {
          if ('dev' in object && object.dev === sight.name) heard.last.delete(key);
        }
      } else names.set(sight.link.index, sight.name);
    }
    const key = sight.of === 'link' ? `link ${sight.name}` : sight.of === 'object' ? sight.key : `kind ${sight.kind}`;
    heard.last.set(key, sight);
    const actor = readActor(portId);
    if (actor !== undefined) heard.actors.set(key, actor);
  }

  const sockets = [listen(NETLINK_ROUTE, netns === HOST_NETNS ? HOST_GROUPS : NETNS_GROUPS, hear)];
  if (!isTaskNetns(netns)) {
    const firewall: FirewallEvents = firewallEvents(watched.isOwnProcess);
    sockets.push(
      listen(NETLINK_NETFILTER, [NFNLGRP_NFTABLES], (message) => {
        const foreign = firewall.foreign(message);
        if (foreign === undefined) return;
        heard.firewall = true;
        if (foreign.by !== undefined) heard.filterers.push(foreign.by);
      }),
    );
  }
  void viewLinks(watched.transport, watched.namespaces)
    .linksOf(netns)
    .then(
      (links) => {
        for (const { index, name } of links) names.set(index, name);
      },
      () => {
        heard.lost = true;
      },
    )
    .then(() => {
      const waiting = early ?? [];
      early = undefined;
      waiting.forEach(hear);
      if (heard.lost || heard.last.size > 0) wake();
    });
  return {
    identity,
    take() {
      const taken = heard;
      heard = silence();
      return taken;
    },
    close() {
      for (const socket of sockets) socket.close();
    },
  };
}

function objectsIn(sightings: ReadonlyMap<string, Sighting>): [string, { object: KernelObject }][] {
  return [...sightings].flatMap(([key, sight]) =>
    sight.of === 'object' && sight.object !== undefined ? [[key, { object: sight.object }]] : [],
  );
}

function silence(): Heard {
  return { lost: false, last: new Map(), actors: new Map(), deleted: new Set(), firewall: false, filterers: [] };
}
