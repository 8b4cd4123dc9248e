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
 * - A slot has at most one task that is wanted to run, but for the moment in which another takes over.
 * - A task leaves a published port before it is stopped. What replaces it is up before that, but for stop-first updates
 *   and tasks that have no other node to go to.
 * - A task that still runs when its node returns is not stopped for one that is not up yet.
 * - An ended task is never started again; its replacement is a new task in the same slot.
 * - No two tasks of a node hold one fixed host port.
 * - Asked twice with the same input, the second answer is empty.
 */

/** Ended tasks kept for `service ps`, a slot. */
const HISTORY_LIMIT = 5;

/** What to do about the tasks of one service; `service` is undefined when nothing is left of it but tasks. */
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

/** What follows from a task's own state, whatever its service wants. */
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

/** Its node is down: another is to take its place, but nobody knows that it does not run. */
function markMissing(changes: TaskChanges, service: Service | undefined, task: Task): void {
  if (task.status.state !== 'running') beginTermination(changes, service, task);
  else if (task.desired !== 'missing') changes.put({ ...task, desired: 'missing' });
}

function isUnhealthy(task: Task): boolean {
  return task.desired === 'running' && task.status.state === 'running' && task.status.health === 'unhealthy';
}

/** An unhealthy task goes the way of every task that leaves, and has failed at its end. */
function markFailed(changes: TaskChanges, service: Service | undefined, task: Task): void {
  const error = `unhealthy: ${task.status.message || 'its healthcheck failed'}`;
  beginTermination(changes, service, { ...task, failure: { error, since: changes.context.now } });
}

/** Ended tasks beyond the history, and all of slots that are gone. */
function pruneHistory(changes: TaskChanges, slotsByNumber: ReadonlyMap<number, Slot>): void {
  const ended = changes.all().filter((task) => isTerminal(task.status.state) && task.desired !== 'running');
  for (const [slot, tasks] of groupBySlot(ended)) {
    const keep = slotsByNumber.has(slot) ? HISTORY_LIMIT : 0;
    tasks.sort((a, b) => b.status.since - a.status.since || b.createdAt - a.createdAt);
    for (const task of tasks.slice(keep)) changes.remove(task);
  }
}

/** Leaving ports that are over, and a removed service with nothing left of it. */
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
