import type { Node, Service, Task } from '../model/cluster.ts';
import type { Context } from './context.ts';

/** What a decision changes. */
export interface Orchestration {
  /** New tasks (version 0) and changed ones (the version that was read). */
  put: Task[];
  /** Tasks to forget. */
  remove: Task[];
  /** The service, when something of it is over: with fewer leaving ports, or not at all any more. */
  service?: { put: Service } | { remove: Service };
  /** Wall clock, ms: look again then, even if nothing happens. */
  wakeAt?: number;
}

/** The tasks of one service as a decision leaves them; what it has not written is as it was read. */
export interface Work {
  /** Its tasksOn knows what this decision has done so far. */
  context: Context;
  nodes: ReadonlyMap<string, Node>;
  all(): Task[];
  get(id: string): Task | undefined;
  ownOn(nodeId: string): Task[];
  put(task: Task): void;
  drop(task: Task): void;
  /** Look again at this time, wall clock, ms. */
  wake(at: number): void;
  result(): Orchestration;
}

export function createWork(tasks: readonly Task[], given: Context): Work {
  const before = new Map(tasks.map((task) => [task.id, task]));
  const now = new Map(before);
  const byNode = new Map<string, Set<string>>();
  let wakeAt = Number.POSITIVE_INFINITY;
  const place = (task: Task) => {
    if (task.nodeId === undefined) return;
    const there = byNode.get(task.nodeId);
    if (there === undefined) byNode.set(task.nodeId, new Set([task.id]));
    else there.add(task.id);
  };
  for (const task of tasks) place(task);
  const ownOn = (nodeId: string) => [...(byNode.get(nodeId) ?? [])].flatMap((id) => now.get(id) ?? []);
  const context: Context = {
    ...given,
    tasksOn: (nodeId) => [...given.tasksOn(nodeId).filter(({ id }) => !before.has(id)), ...ownOn(nodeId)],
  };
  return {
    context,
    nodes: new Map(given.nodes.map((node) => [node.id, node])),
    all: () => [...now.values()],
    get: (id) => now.get(id),
    ownOn,
    put(task) {
      now.set(task.id, task);
      place(task);
    },
    drop: (task) => void now.delete(task.id),
    wake(at) {
      wakeAt = Math.min(wakeAt, at);
    },
    result() {
      const changed = [...now.values()].filter((task) => task !== before.get(task.id));
      return {
        put: changed.map((task) => ({ ...task, updatedAt: given.now })),
        remove: [...before.values()].filter(({ id }) => !now.has(id)),
        ...(wakeAt === Number.POSITIVE_INFINITY ? {} : { wakeAt }),
      };
    },
  };
}

export function groupBySlot(tasks: readonly Task[]): Map<number, Task[]> {
  const groups = new Map<number, Task[]>();
  for (const task of tasks) {
    const group = groups.get(task.slot);
    if (group) group.push(task);
    else groups.set(task.slot, [task]);
  }
  return groups;
}
