import { MeshError } from '../../base/errors.ts';
import type { Network, Node, Service, Task } from '../../model/cluster.ts';
import type { Generation } from '../../model/generation.ts';
import { publishedKey } from '../../model/spec.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { Change, Store } from '../../store/store.ts';
import type { ClusterView } from '../leading/cluster-view.ts';

/** The tasks of one service and their counts, updated with each change. */
interface ServiceEntry {
  tasks: Map<string, Task>;
  /** Running tasks whose desired state is running. */
  running: number;
  draining: number;
  /** Live tasks without a node. */
  waiting: number;
  /** Running tasks that do not accept every family on every target port. */
  limited: number;
}

/**
 * The store's objects with the look-ups the manager needs. A service that was removed stays in the store until its last
 * task is removed: only `services` and `serviceOrRemoved` return it.
 */
export interface ClusterIndex extends ClusterView {
  /** Applies one commit; to be called in their order. */
  apply(changes: readonly Change[]): void;
  /** Services that were not removed. */
  activeServices(): Iterable<Service>;
  taskCounts(serviceId: string): { running: number; draining: number; waiting: number; limited: number };
  tasks(): Iterable<Task>;
}

const NO_COUNTS = { running: 0, draining: 0, waiting: 0, limited: 0 };

export function createClusterIndex(store: Store): ClusterIndex {
  const services = new Map<string, Service>();
  const servicesByName = new Map<string, Service>();
  const servicesByPort = new Map<string, Set<string>>();
  const removed = new Map<string, Service>();
  const globals = new Set<string>();
  const nodes = new Map<string, Node>();
  const nodesByName = new Map<string, Node>();
  const generations = new Map<string, Map<number, Generation>>();
  const tasks = new Map<string, Task>();
  const tasksByService = new Map<string, ServiceEntry>();
  const tasksByNode = new Map<string, Map<string, Task>>();
  const draining = new Set<string>();
  const withDrainingPorts = new Set<string>();
  const waiting = new Set<string>();
  let running = 0;

  function applyService(before: Service | undefined, after: Service | undefined): void {
    if (before !== undefined) {
      if (services.delete(before.id)) {
        servicesByName.delete(before.name);
        globals.delete(before.id);
        for (const key of portKeys(before)) removeEntry(servicesByPort, key, before.id);
      }
      removed.delete(before.id);
      withDrainingPorts.delete(before.id);
    }
    if (after === undefined) return;
    setMembership(withDrainingPorts, after.id, after.leaving !== undefined);
    if (after.removed) {
      removed.set(after.id, after);
      return;
    }
    services.set(after.id, after);
    servicesByName.set(after.name, after);
    if (after.spec.mode === 'global') globals.add(after.id);
    for (const key of portKeys(after)) getOrCreate(servicesByPort, key, () => new Set<string>()).add(after.id);
  }

  function applyTask(before: Task | undefined, after: Task | undefined): void {
    const { id, serviceId } = (after ?? before)!;
    const entry = getOrCreate(tasksByService, serviceId, () => ({ tasks: new Map<string, Task>(), ...NO_COUNTS }));
    for (const [task, sign] of [
      [before, -1],
      [after, 1],
    ] as const) {
      if (task === undefined) continue;
      const counts = countTask(task);
      entry.running += sign * counts.running;
      entry.draining += sign * counts.draining;
      entry.waiting += sign * counts.waiting;
      entry.limited += sign * counts.limited;
      running += sign * counts.running;
    }
    if (before?.nodeId !== undefined && before.nodeId !== after?.nodeId) removeEntry(tasksByNode, before.nodeId, id);
    if (after === undefined) {
      tasks.delete(id);
      entry.tasks.delete(id);
    } else {
      tasks.set(id, after);
      entry.tasks.set(id, after);
      if (after.nodeId !== undefined)
        getOrCreate(tasksByNode, after.nodeId, () => new Map<string, Task>()).set(id, after);
    }
    setMembership(draining, serviceId, entry.draining > 0);
    setMembership(waiting, serviceId, entry.waiting > 0);
    if (entry.tasks.size === 0) tasksByService.delete(serviceId);
  }

  function applyGeneration(before: Generation | undefined, after: Generation | undefined): void {
    const { serviceId, generation } = (after ?? before)!;
    if (after === undefined) removeEntry(generations, serviceId, generation);
    else getOrCreate(generations, serviceId, () => new Map<number, Generation>()).set(generation, after);
  }

  function applyNode(before: Node | undefined, after: Node | undefined): void {
    if (before !== undefined) {
      nodes.delete(before.id);
      nodesByName.delete(before.name);
    }
    if (after !== undefined) {
      nodes.set(after.id, after);
      nodesByName.set(after.name, after);
    }
  }

  const index: ClusterIndex = {
    revision: store.revision(),
    networks: store.list<Network>('networks'),
    apply(changes) {
      for (const { collection, before, after, revision } of changes) {
        index.revision = revision;
        if (collection === 'services') applyService(before as Service | undefined, after as Service | undefined);
        else if (collection === 'tasks') applyTask(before as Task | undefined, after as Task | undefined);
        else if (collection === 'nodes') applyNode(before as Node | undefined, after as Node | undefined);
        else if (collection === 'generations')
          applyGeneration(before as Generation | undefined, after as Generation | undefined);
        else if (collection === 'networks') index.networks = store.list<Network>('networks');
      }
    },
    *services() {
      yield* services.values();
      yield* removed.values();
    },
    activeServices: () => services.values(),
    service: (id) => services.get(id),
    serviceByName: (name) => servicesByName.get(name),
    *servicesWithPort(key) {
      for (const id of servicesByPort.get(key) ?? []) yield services.get(id)!;
    },
    serviceOrRemoved: (id) => services.get(id) ?? removed.get(id),
    servicesWithTasks: () => tasksByService.keys(),
    taskCounts: (id) => tasksByService.get(id) ?? NO_COUNTS,
    draining: () => new Set([...draining, ...withDrainingPorts]),
    waiting: () => waiting,
    globalServices: () => globals,
    nodes: () => nodes.values(),
    node: (id) => nodes.get(id),
    nodeByName: (name) => nodesByName.get(name),
    generations: (serviceId) => generations.get(serviceId)?.values() ?? [],
    servicesWithGenerations: () => generations.keys(),
    template({ serviceId, generation }) {
      const found = generations.get(serviceId)?.get(generation);
      if (found !== undefined) return found.template;
      throw new MeshError('internal', `generation ${generation} of service ${serviceId} is used but not stored`);
    },
    task: (id) => tasks.get(id),
    tasks: () => tasks.values(),
    tasksOfService: (id) => [...(tasksByService.get(id)?.tasks.values() ?? [])],
    tasksOnNode: (id) => [...(tasksByNode.get(id)?.values() ?? [])],
    totals: () => ({ services: services.size, running }),
  };
  for (const node of store.list<Node>('nodes')) applyNode(undefined, node);
  for (const service of store.list<Service>('services')) applyService(undefined, service);
  for (const generation of store.list<Generation>('generations')) applyGeneration(undefined, generation);
  for (const task of store.list<Task>('tasks')) applyTask(undefined, task);
  return index;
}

/** Whether a running task does not accept every family on every target port. */
export function isLimited({ status }: Task): boolean {
  return status.state === 'running' && status.missing !== undefined;
}

function countTask(task: Task) {
  const live = !isTerminal(task.status.state);
  return {
    running: Number(task.status.state === 'running' && task.desired === 'running'),
    draining: Number(live && task.desired === 'drain'),
    waiting: Number(live && task.desired === 'running' && task.nodeId === undefined),
    limited: Number(isLimited(task)),
  };
}

/** Published ports of a service as `8080/tcp`. */
function portKeys(service: Pick<Service, 'spec'>): string[] {
  return service.spec.ports.flatMap((port) => publishedKey(port) ?? []);
}

function getOrCreate<K, V>(map: Map<K, V>, key: K, create: () => V): V {
  let found = map.get(key);
  if (found === undefined) {
    found = create();
    map.set(key, found);
  }
  return found;
}

/** Removes an entry from a set in a map, and the set once it is empty. */
function removeEntry<E>(map: Map<string, { delete(entry: E): boolean; size: number }>, key: string, entry: E): void {
  const found = map.get(key);
  found?.delete(entry);
  if (found?.size === 0) map.delete(key);
}

function setMembership(set: Set<string>, id: string, isMember: boolean): void {
  if (isMember) set.add(id);
  else set.delete(id);
}
