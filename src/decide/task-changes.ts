import type { Node, Service, Task } from '../model/cluster.ts';
import type { DecisionContext } from './context.ts';

/** What a decision changes. */
export interface ServiceDecision {
  /** New tasks (version 0) and changed ones (the version that was read). */
  put: Task[];
  /** Tasks to remove from the store. */
  remove: Task[];
  /** The service, when ports of it have drained, or when it is removed. */
  service?: { put: Service } | { remove: Service };
  /** Wall clock, ms: when to decide again, even if nothing happens. */
  wakeAt?: number;
}

/** The tasks of one service as a decision leaves them; what it has not written is as it was read. */
export interface TaskChanges {
  /** Its tasksOn includes the changes of this decision. */
  context: DecisionContext;
  nodes: ReadonlyMap<string, Node>;
  all(): Task[];
  get(id: string): Task | undefined;
  ownTasksOnNode(nodeId: string): Task[];
  put(task: Task): void;
  remove(task: Task): void;
  /** Requests a decision at this time, wall clock, ms. */
  wake(at: number): void;
  result(): ServiceDecision;
}

export function createTaskChanges(tasks: readonly Task[], base: DecisionContext): TaskChanges {
  const before = new Map(tasks.map((task) => [task.id, task]));
  const current = new Map(before);
  const byNode = new Map<string, Set<string>>();
  let wakeAt = Number.POSITIVE_INFINITY;
  const indexByNode = (task: Task) => {
    if (task.nodeId === undefined) return;
    const there = byNode.get(task.nodeId);
    if (there === undefined) byNode.set(task.nodeId, new Set([task.id]));
    else there.add(task.id);
  };
  for (const task of tasks) indexByNode(task);
  const ownTasksOnNode = (nodeId: string) => [...(byNode.get(nodeId) ?? [])].flatMap((id) => current.get(id) ?? []);
  const context: DecisionContext = {
    ...base,
    tasksOn: (nodeId) => [...base.tasksOn(nodeId).filter(({ id }) => !before.has(id)), ...ownTasksOnNode(nodeId)],
  };
  return {
    context,
    nodes: new Map(base.nodes.map((node) => [node.id, node])),
    all: () => [...current.values()],
    get: (id) => current.get(id),
    ownTasksOnNode,
    put(task) {
      current.set(task.id, task);
      indexByNode(task);
    },
    remove: (task) => void current.delete(task.id),
    wake(at) {
      wakeAt = Math.min(wakeAt, at);
    },
    result() {
      const changed = [...current.values()].filter((task) => task !== before.get(task.id));
      return {
        put: changed.map((task) => ({ ...task, updatedAt: base.now })),
        remove: [...before.values()].filter(({ id }) => !current.has(id)),
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
