import type { Service, Task } from '../model/cluster.ts';
import { restart } from './restart.ts';
import type { Work } from './work.ts';

/**
 * A new task for a slot whose tasks so far are `history`; undefined when the last one ended by itself and the restart
 * policy leaves it at that. `takesOver`: it is made in place of one that takes connections.
 */
export function create(
  work: Work,
  service: Service,
  slot: number,
  history: readonly Task[],
  takesOver: boolean,
): Task | undefined {
  const { context } = work;
  const last = newest(history);
  const policy = last?.generation === service.taskGeneration ? policyAfter(last, service) : AT_ONCE;
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
    spec: service.spec,
    addresses: [],
    desired: 'running',
    status: { state: 'new', message: '', error: '', since: context.now },
    restarts: policy.restarts,
    ...(takesOver ? { takesOver: true } : {}),
    ...(policy.notBefore > context.now ? { notBefore: policy.notBefore } : {}),
  };
  work.put(task);
  return task;
}

const AT_ONCE = { notBefore: 0, restarts: 0 };

/** When a task may be replaced that ended by itself, or is being ended for its own fault. */
function policyAfter(last: Task, service: Service): { notBefore: number; restarts: number } | undefined {
  const { failure, status } = last;
  if (failure !== undefined) {
    const failed = { ...status, state: 'failed' as const, since: failure.since };
    return restart({ ...last, spec: service.spec, status: failed });
  }
  if (status.state !== 'complete' && status.state !== 'failed') return AT_ONCE;
  return restart({ ...last, spec: service.spec });
}

/** The task of a slot that was made last. */
export function newest(history: readonly Task[]): Task | undefined {
  return history.reduce<Task | undefined>((last, task) => (last && !isNewer(task, last) ? last : task), undefined);
}

function isNewer(task: Task, other: Task): boolean {
  return (task.createdAt - other.createdAt || task.generation - other.generation || task.restarts - other.restarts) > 0;
}
