import type { Service, Task } from '../model/cluster.ts';
import { isTerminal } from '../model/task-state.ts';
import type { DecisionContext } from './context.ts';
import { remainingDrainingPorts } from './draining-ports.ts';
import { updateHostPorts } from './host-ports.ts';
import { placeTasks } from './place.ts';
import { fillSlots, terminateUnplaceable } from './rollout.ts';
import { desiredSlots, type Slot } from './slots.ts';
import { createTaskChanges, groupBySlot, type ServiceDecision, type TaskChanges } from './task-changes.ts';
import { advanceDrain, beginTermination } from './terminate.ts';

/**
 * INVARIANTS
 * - A slot has at most one task whose desired state is running, except while another replaces it.
 * - A task is removed from its published ports before it is stopped. Its replacement is up before that, except in
 *   stop-first updates and for tasks that no other node is suitable for.
 * - A task that still runs when its node returns is not stopped for one that is not up yet.
 * - An ended task is never started again; its replacement is a new task in the same slot.
 * - No two tasks of a node hold one fixed host port.
 * - A second decision on the result of the first changes nothing.
 */

/** Ended tasks kept per slot, for `service ps`. */
const HISTORY_LIMIT = 5;

/** The next changes to the tasks of one service; `service` is undefined when only tasks of it remain. */
export function orchestrate(
  service: Service | undefined,
  tasks: readonly Task[],
  context: DecisionContext,
): ServiceDecision {
  const changes = createTaskChanges(tasks, context);
  for (const task of tasks) advanceTask(changes, service, task);
  const activeService = service?.removed ? undefined : service;
  const slots = activeService === undefined ? [] : desiredSlots(activeService, context.nodes);
  const slotsByNumber = new Map(slots.map((slot) => [slot.slot, slot]));
  for (const task of changes.all()) {
    if (task.desired !== 'running' && task.desired !== 'missing') continue;
    if (!slotsByNumber.has(task.slot) || isTerminal(task.status.state)) beginTermination(changes, service, task);
    else if (isDown(changes, task)) markMissing(changes, service, task);
    else if (isUnhealthy(task)) markFailed(changes, service, task);
  }
  if (activeService !== undefined) {
    updateHostPorts(changes, activeService);
    fillSlots(changes, activeService, slots);
    placeTasks(changes, activeService, slotsByNumber);
    terminateUnplaceable(changes, activeService);
  }
  pruneHistory(changes, slotsByNumber);
  const finished = finishedService(changes, service);
  return { ...changes.result(), ...(finished === undefined ? {} : { service: finished }) };
}

/** Changes that follow from a task's own state alone. */
function advanceTask(changes: TaskChanges, service: Service | undefined, task: Task): void {
  if (task.nodeId !== undefined && !changes.nodes.has(task.nodeId) && !isTerminal(task.status.state)) {
    const error = 'its node was removed from the cluster';
    const status = { state: 'orphaned' as const, message: '', error, since: changes.context.now };
    changes.put({ ...task, desired: 'shutdown', status });
  } else if (task.desired === 'drain') advanceDrain(changes, service, task);
}

function isDown(changes: TaskChanges, task: Task): boolean {
  return task.nodeId !== undefined && changes.nodes.get(task.nodeId)?.state !== 'ready';
}

/** Its node is down: it is replaced, but may still be running. */
function markMissing(changes: TaskChanges, service: Service | undefined, task: Task): void {
  if (task.status.state !== 'running') beginTermination(changes, service, task);
  else if (task.desired !== 'missing') changes.put({ ...task, desired: 'missing' });
}

function isUnhealthy(task: Task): boolean {
  return task.desired === 'running' && task.status.state === 'running' && task.status.health === 'unhealthy';
}

/** An unhealthy task drains like any other, and counts as failed once it has ended. */
function markFailed(changes: TaskChanges, service: Service | undefined, task: Task): void {
  const error = `unhealthy: ${task.status.message || 'its health check failed'}`;
  beginTermination(changes, service, { ...task, failure: { error, since: changes.context.now } });
}

/** Removes ended tasks beyond the history, and all ended tasks of removed slots. */
function pruneHistory(changes: TaskChanges, slotsByNumber: ReadonlyMap<number, Slot>): void {
  const ended = changes.all().filter((task) => isTerminal(task.status.state) && task.desired !== 'running');
  for (const [slot, tasks] of groupBySlot(ended)) {
    const keep = slotsByNumber.has(slot) ? HISTORY_LIMIT : 0;
    tasks.sort((a, b) => b.status.since - a.status.since || b.createdAt - a.createdAt);
    for (const task of tasks.slice(keep)) changes.remove(task);
  }
}

/** The service without the ports that have drained; a removed service without tasks is removed from the store. */
function finishedService(changes: TaskChanges, service: Service | undefined): ServiceDecision['service'] {
  if (service?.removed) return changes.all().length === 0 ? { remove: service } : undefined;
  if (service?.leaving === undefined) return undefined;
  const remaining = remainingDrainingPorts(service, changes.all(), changes.context);
  for (const { deadline } of remaining) changes.wake(deadline);
  if (remaining.length === service.leaving.length) return undefined;
  const { leaving: _, ...rest } = service;
  return {
    put: { ...rest, ...(remaining.length === 0 ? {} : { leaving: remaining }), updatedAt: changes.context.now },
  };
}
