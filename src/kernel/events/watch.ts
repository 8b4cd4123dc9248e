import { type FSWatcher, watch as watchDirectory } from 'node:fs';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { keyOf } from '../../model/kernel-state.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import type { ObservedCache } from '../driver/observed-cache.ts';
import type { Actor, Scope } from '../kernel.ts';
import { type EventHandler, type EventHandlerContext, openEventHandler } from './event-handler.ts';
import { observedLinks } from './events.ts';
import { detectChanges, LINK_RELATED_KINDS } from './pending-events.ts';

/** Events come in bursts; they are evaluated together this long, ms, after the first. */
const BATCH_DELAY = 20;
/** `ip netns add` creates the file first and mounts the namespace on it a moment later: time between two checks, ms. */
const MOUNT_POLL_INTERVAL = 200;
const MAX_MOUNT_POLLS = 10;

export interface WatchContext extends EventHandlerContext {
  cache: ObservedCache;
  log: Log;
  /** An apply is running: what it did is not yet in the cache. */
  isApplying(): boolean;
  /** Links that applies created or deleted since the last call, as `netns name`. */
  takeOwnLinks(): Set<string>;
  /** An address, or a whole network, may have become local in the host. */
  onLocalAddress(): void;
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
      const events = handler.takeEvents();
      if (events.localAddressAdded || (events.eventsLost && netns === HOST_NETNS)) {
        context.onLocalAddress();
        // Rules that select by it as source begin to matter.
        onChange({ netns: [HOST_NETNS], kinds: ['host-rule'] }, []);
      }
      const { scopes, by } = detectChanges(netns, events, cache, links, own);
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
