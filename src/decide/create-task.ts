import type { Service, Task } from '../model/cluster.ts';
import { nextRestart } from './restart.ts';
import type { TaskChanges } from './task-changes.ts';

/**
 * A new task for a slot with the tasks `history`; undefined when the last one ended and the restart policy does not
 * restart it. `takesOver`: it replaces a task that accepts connections.
 */
export function createTask(
  changes: TaskChanges,
  service: Service,
  slot: number,
  history: readonly Task[],
  takesOver: boolean,
): Task | undefined {
  const { context } = changes;
  const last = newestTask(history);
  const policy = last?.generation === service.taskGeneration ? restartAfter(last, service) : IMMEDIATE;
  if (policy === undefined) return undefined;
  const task: Task = {
    id: context.newId(),
    version: 0,
    createdAt: context.now,
    updatedAt: context.now,
    serviceId: service.id,
    serviceName: service.name,
    slot,
    generation: service.taskGeneration,
    ...(service.spec.health === undefined ? {} : { hasHealthCheck: true }),
    stopGracePeriod: service.spec.stopGracePeriod,
    addresses: [],
    desired: 'running',
    status: { state: 'new', message: '', error: '', since: context.now },
    restarts: policy.restarts,
    ...(takesOver ? { takesOver: true } : {}),
    ...(policy.notBefore > context.now ? { notBefore: policy.notBefore } : {}),
  };
  changes.put(task);
  return task;
}

const IMMEDIATE = { notBefore: 0, restarts: 0 };

/** When a task may be replaced that ended by itself, or is being ended because it failed. */
function restartAfter(last: Task, service: Service): { notBefore: number; restarts: number } | undefined {
  const { failure, status } = last;
  if (failure !== undefined) {
    const failed = { ...status, state: 'failed' as const, since: failure.since };
    return nextRestart({ ...last, status: failed }, service.spec.restart);
  }
  if (status.state !== 'complete' && status.state !== 'failed') return IMMEDIATE;
  return nextRestart(last, service.spec.restart);
}

/** The newest task of a slot. */
export function newestTask(history: readonly Task[]): Task | undefined {
  return history.reduce<Task | undefined>((last, task) => (last && !isNewer(task, last) ? last : task), undefined);
}

function isNewer(task: Task, other: Task): boolean {
  return (task.createdAt - other.createdAt || task.generation - other.generation || task.restarts - other.restarts) > 0;
}
