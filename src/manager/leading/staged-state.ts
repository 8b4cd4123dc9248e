import type { DecisionContext } from '../../decide/context.ts';
import type { ServiceDecision } from '../../decide/task-changes.ts';
import type { Task } from '../../model/cluster.ts';
import type { Write } from '../../store/store.ts';
import type { ClusterView, NodeObservations } from './cluster-view.ts';
import { newId } from './id.ts';
import { put, remove } from './writer.ts';

/**
 * The cluster with decisions that are not committed yet: the second service of a batch sees the addresses that the first
 * one allocated.
 */
export interface StagedState {
  context: DecisionContext;
  tasksOfService(serviceId: string): readonly Task[];
  tasksOnNode(nodeId: string): readonly Task[];
  add(decided: Pick<ServiceDecision, 'put' | 'remove' | 'service'>): void;
  writes(): Write[];
}

export function createStagedState(view: ClusterView, observations: NodeObservations, now: number): StagedState {
  const changed = new Map<string, Task>();
  const removed = new Map<string, Task>();
  const services: Write[] = [];

  const withStaged = (tasks: readonly Task[], isIncluded: (task: Task) => boolean): readonly Task[] => {
    if (changed.size === 0 && removed.size === 0) return tasks;
    const kept = tasks.filter((task) => !changed.has(task.id) && !removed.has(task.id));
    for (const task of changed.values()) if (isIncluded(task)) kept.push(task);
    return kept;
  };
  const tasksOnNode = (nodeId: string) => withStaged(view.tasksOnNode(nodeId), (task) => task.nodeId === nodeId);
  return {
    context: {
      now,
      nextRevision: view.revision + 1,
      nodes: [...view.nodes()],
      networks: view.networks,
      tasksOn: tasksOnNode,
      acknowledged: (nodeId) => observations.acknowledged(nodeId),
      openConnections: (taskId, revision) => observations.openConnections(taskId, revision),
      newId,
    },
    tasksOfService: (serviceId) => withStaged(view.tasksOfService(serviceId), (task) => task.serviceId === serviceId),
    tasksOnNode,
    add(decided) {
      for (const task of decided.put) changed.set(task.id, task);
      for (const task of decided.remove) {
        changed.delete(task.id);
        removed.set(task.id, task);
      }
      const { service } = decided;
      if (service !== undefined)
        services.push('put' in service ? put('services', service.put) : remove('services', service.remove));
    },
    writes: () => [
      ...services,
      ...[...changed.values()].map((task) => put('tasks', task)),
      ...[...removed.values()].map((task) => remove('tasks', task)),
    ],
  };
}
