import type { AssignView } from '../decide/assign.ts';
import { isTerminal, type Network, type Node, type Service, type Task } from '../model/cluster.ts';
import { publishedKey } from '../model/spec.ts';
import type { Change, Store } from '../store/store.ts';

/** What is known of one service besides itself; kept up to date with each change, never by a walk. */
interface ServiceTasks {
  tasks: Map<string, Task>;
  /** Tasks that run and should. */
  running: number;
  draining: number;
  /** Live tasks without a node. */
  waiting: number;
}

/**
 * The store's objects with the look-ups the manager needs. A service that was removed stays in the store until its last
 * task is gone: only `services` and `declared` know it.
 */
export interface ClusterIndex extends AssignView {
  /** Takes one commit in; the caller does so in order. */
  take(changes: readonly Change[]): void;
  serviceByName(name: string): Service | undefined;
  nodeByName(name: string): Node | undefined;
  /** Services that have a port of this number and protocol. */
  servicesWithPort(key: string): Iterable<Service>;
  /** A service, a removed one too. */
  declared(id: string): Service | undefined;
  /** Ids of services, removed ones too, that have tasks. */
  servicesWithTasks(): Iterable<string>;
  counts(serviceId: string): { running: number; draining: number; waiting: number };
  /** Ids of services with tasks or ports that wait for connections to end. */
  draining(): Iterable<string>;
  waiting(): Iterable<string>;
  globals(): Iterable<string>;
  task(id: string): Task | undefined;
  tasks(): Iterable<Task>;
  totals(): { services: number; running: number };
}

const NO_COUNTS = { running: 0, draining: 0, waiting: 0 };

export function createClusterIndex(store: Store): ClusterIndex {
  const services = new Map<string, Service>();
  const names = new Map<string, Service>();
  const ports = new Map<string, Set<string>>();
  const removed = new Map<string, Service>();
  const globals = new Set<string>();
  const nodes = new Map<string, Node>();
  const nodeNames = new Map<string, Node>();
  const tasks = new Map<string, Task>();
  const ofService = new Map<string, ServiceTasks>();
  const onNode = new Map<string, Map<string, Task>>();
  const draining = new Set<string>();
  const leavingPorts = new Set<string>();
  const waiting = new Set<string>();
  let running = 0;

  function takeService(before: Service | undefined, after: Service | undefined): void {
    if (before !== undefined) {
      if (services.delete(before.id)) {
        names.delete(before.name);
        globals.delete(before.id);
        for (const key of portKeys(before)) forget(ports, key, before.id);
      }
      removed.delete(before.id);
      leavingPorts.delete(before.id);
    }
    if (after === undefined) return;
    mark(leavingPorts, after.id, after.leaving !== undefined);
    if (after.removed) {
      removed.set(after.id, after);
      return;
    }
    services.set(after.id, after);
    names.set(after.name, after);
    if (after.spec.mode === 'global') globals.add(after.id);
    for (const key of portKeys(after)) at(ports, key, () => new Set<string>()).add(after.id);
  }

  function takeTask(before: Task | undefined, after: Task | undefined): void {
    const { id, serviceId } = (after ?? before)!;
    const entry = at(ofService, serviceId, () => ({ tasks: new Map<string, Task>(), ...NO_COUNTS }));
    for (const [task, sign] of [
      [before, -1],
      [after, 1],
    ] as const) {
      if (task === undefined) continue;
      const counts = classify(task);
      entry.running += sign * counts.running;
      entry.draining += sign * counts.draining;
      entry.waiting += sign * counts.waiting;
      running += sign * counts.running;
    }
    if (before?.nodeId !== undefined && before.nodeId !== after?.nodeId) forget(onNode, before.nodeId, id);
    if (after === undefined) {
      tasks.delete(id);
      entry.tasks.delete(id);
    } else {
      tasks.set(id, after);
      entry.tasks.set(id, after);
      if (after.nodeId !== undefined) at(onNode, after.nodeId, () => new Map<string, Task>()).set(id, after);
    }
    mark(draining, serviceId, entry.draining > 0);
    mark(waiting, serviceId, entry.waiting > 0);
    if (entry.tasks.size === 0) ofService.delete(serviceId);
  }

  function takeNode(before: Node | undefined, after: Node | undefined): void {
    if (before !== undefined) {
      nodes.delete(before.id);
      nodeNames.delete(before.name);
    }
    if (after !== undefined) {
      nodes.set(after.id, after);
      nodeNames.set(after.name, after);
    }
  }

  const index: ClusterIndex = {
    revision: store.revision(),
    networks: store.list<Network>('networks'),
    take(changes) {
      for (const { collection, before, after, revision } of changes) {
        index.revision = revision;
        if (collection === 'services') takeService(before as Service | undefined, after as Service | undefined);
        else if (collection === 'tasks') takeTask(before as Task | undefined, after as Task | undefined);
        else if (collection === 'nodes') takeNode(before as Node | undefined, after as Node | undefined);
        else if (collection === 'networks') index.networks = store.list<Network>('networks');
      }
    },
    *services() {
      yield* services.values();
      yield* removed.values();
    },
    service: (id) => services.get(id),
    serviceByName: (name) => names.get(name),
    *servicesWithPort(key) {
      for (const id of ports.get(key) ?? []) yield services.get(id)!;
    },
    declared: (id) => services.get(id) ?? removed.get(id),
    servicesWithTasks: () => ofService.keys(),
    counts: (id) => ofService.get(id) ?? NO_COUNTS,
    draining: () => new Set([...draining, ...leavingPorts]),
    waiting: () => waiting,
    globals: () => globals,
    nodes: () => nodes.values(),
    node: (id) => nodes.get(id),
    nodeByName: (name) => nodeNames.get(name),
    task: (id) => tasks.get(id),
    tasks: () => tasks.values(),
    tasksOfService: (id) => [...(ofService.get(id)?.tasks.values() ?? [])],
    tasksOnNode: (id) => [...(onNode.get(id)?.values() ?? [])],
    totals: () => ({ services: services.size, running }),
  };
  for (const node of store.list<Node>('nodes')) takeNode(undefined, node);
  for (const service of store.list<Service>('services')) takeService(undefined, service);
  for (const task of store.list<Task>('tasks')) takeTask(undefined, task);
  return index;
}

function classify(task: Task) {
  const live = !isTerminal(task.status.state);
  return {
    running: Number(task.status.state === 'running' && task.desired === 'running'),
    draining: Number(live && task.desired === 'drain'),
    waiting: Number(live && task.desired === 'running' && task.nodeId === undefined),
  };
}

/** Published ports of a service as `8080/tcp`. */
function portKeys(service: Pick<Service, 'spec'>): string[] {
  return service.spec.ports.flatMap((port) => publishedKey(port) ?? []);
}

function at<K, V>(map: Map<K, V>, key: K, make: () => V): V {
  let found = map.get(key);
  if (found === undefined) {
    found = make();
    map.set(key, found);
  }
  return found;
}

/** Takes an entry out of a set of a map, and the set when it is empty. */
function forget(map: Map<string, Set<string> | Map<string, Task>>, key: string, entry: string): void {
  const found = map.get(key);
  found?.delete(entry);
  if (found?.size === 0) map.delete(key);
}

function mark(set: Set<string>, id: string, wanted: boolean): void {
  if (wanted) set.add(id);
  else set.delete(id);
}
