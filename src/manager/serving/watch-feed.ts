import { MeshError } from '../../base/errors.ts';
import type { Node, Service, Stored, Task } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import type { WatchEvent, WatchRequest } from '../../rpc/messages.ts';
import type { Change } from '../../store/store.ts';
import type { ClusterIndex } from './cluster-index.ts';
import type { Presenter } from './presenter.ts';

/** Events queued for one watcher; a slower one is disconnected, because it would fall further and further behind. */
const MAX_QUEUED_EVENTS = 20_000;
const MAX_WATCHERS = 1_000;

export interface WatchFeeds {
  onCommit(changes: readonly Change[]): void;
  /** Something changed about these services that is not stored, such as where they are degraded. */
  onServices(services: readonly Service[]): void;
  /** The same about nodes. */
  onNodes(nodes: readonly Node[]): void;
  /** All objects of the kinds asked for, then `ready`, then every change, until the signal aborts. */
  watch(request: WatchRequest, signal: AbortSignal): AsyncGenerator<WatchEvent>;
  stop(): void;
}

interface Watcher {
  request: WatchRequest;
  queue: WatchEvent[];
  wake(): void;
  /** Why it was ended. */
  error?: MeshError;
}

export function createWatchFeeds(index: ClusterIndex, presenter: Presenter): WatchFeeds {
  const watchers = new Set<Watcher>();

  const eventObjects = {
    services: (object: object): WatchEvent['object'] => ({
      case: 'service',
      value: presenter.service(object as Service),
    }),
    tasks: (object: object): WatchEvent['object'] => ({ case: 'task', value: presenter.task(object as Task) }),
    nodes: (object: object): WatchEvent['object'] => ({ case: 'node', value: presenter.node(object as Node) }),
  };

  function* initialEvents(request: WatchRequest): Generator<WatchEvent> {
    const event = (kind: keyof typeof eventObjects, object: object): WatchEvent => ({
      action: 'current',
      object: eventObjects[kind](object),
      revision: index.revision,
    });
    if (request.nodes) for (const node of index.nodes()) yield event('nodes', node);
    if (request.services) for (const service of index.activeServices()) yield event('services', service);
    if (request.tasks) for (const task of index.tasks()) yield event('tasks', task);
    yield { action: 'ready', object: undefined, revision: index.revision };
  }

  /** A service whose tasks changed is sent again, because its counts, or where it is degraded, changed. */
  function withServiceCounts(changes: readonly Change[]): Change[] {
    const included = new Set(changes.map(({ id }) => id));
    const more: Change[] = [];
    for (const { collection, before, after, revision } of changes) {
      if (collection !== 'tasks') continue;
      const [old, now] = [before as Task | undefined, after as Task | undefined];
      if (isRunning(old) === isRunning(now) && sameValue(old?.status.missing, now?.status.missing)) continue;
      const service = index.service((now ?? old)!.serviceId);
      if (service === undefined || included.has(service.id)) continue;
      included.add(service.id);
      more.push({ revision, collection: 'services', id: service.id, before: service, after: service });
    }
    return [...changes, ...more];
  }

  function publish(events: readonly { kind: keyof WatchRequest; event: WatchEvent }[]): void {
    for (const watcher of watchers) {
      for (const { kind, event } of events) if (watcher.request[kind]) watcher.queue.push(event);
      if (watcher.queue.length > MAX_QUEUED_EVENTS) {
        watcher.queue = [];
        const message = `this watch is more than ${MAX_QUEUED_EVENTS} events behind: start a new one`;
        watcher.error = new MeshError('exhausted', message, { retry: true });
      }
      watcher.wake();
    }
  }

  function publishUpdates(kind: 'services' | 'nodes', objects: readonly object[]): void {
    if (watchers.size === 0) return;
    const { revision } = index;
    publish(
      objects.map((object) => ({ kind, event: { action: 'updated', object: eventObjects[kind](object), revision } })),
    );
  }

  return {
    onCommit(changes) {
      if (watchers.size === 0) return;
      const events: { kind: keyof WatchRequest; event: WatchEvent }[] = [];
      for (const { collection: kind, before, after, revision } of withServiceCounts(changes)) {
        if (kind !== 'services' && kind !== 'tasks' && kind !== 'nodes') continue;
        // A removed service may still have tasks; watchers see it as removed.
        const isRemoved = (object: Stored | undefined) => object === undefined || (object as Service).removed === true;
        if (isRemoved(before) && isRemoved(after)) continue;
        const action = before === undefined ? 'created' : isRemoved(after) ? 'removed' : 'updated';
        events.push({ kind, event: { action, object: eventObjects[kind]((after ?? before)!), revision } });
      }
      publish(events);
    },
    onServices: (services) => publishUpdates('services', services),
    onNodes: (nodes) => publishUpdates('nodes', nodes),
    async *watch(request, signal) {
      if (watchers.size >= MAX_WATCHERS)
        throw new MeshError('exhausted', `more than ${MAX_WATCHERS} watches are open: close some`);
      const before = [...initialEvents(request)];
      const watcher: Watcher = { request, queue: [], wake: () => {} };
      watchers.add(watcher);
      const wake = () => watcher.wake();
      signal.addEventListener('abort', wake);
      try {
        yield* before;
        while (!signal.aborted) {
          const events = watcher.queue.splice(0);
          for (const event of events) {
            yield event;
            if (signal.aborted) return;
          }
          if (watcher.error !== undefined) throw watcher.error;
          if (watcher.queue.length > 0) continue;
          await new Promise<void>((resolve) => {
            watcher.wake = resolve;
          });
        }
      } finally {
        signal.removeEventListener('abort', wake);
        watchers.delete(watcher);
      }
    },
    stop() {
      for (const watcher of watchers) {
        watcher.error = new MeshError('unavailable', 'the manager is stopping');
        watcher.wake();
      }
    },
  };
}

function isRunning(task: Task | undefined): boolean {
  return task?.status.state === 'running' && task.desired === 'running';
}
