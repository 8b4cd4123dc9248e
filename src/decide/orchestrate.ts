import { isTerminal, type Service, type Task } from '../model/cluster.ts';
import type { Context } from './context.ts';
import { settleHostPorts } from './host-ports.ts';
import { advanceDrain, retire } from './leave.ts';
import { stillLeaving } from './leaving-ports.ts';
import { placeTasks } from './place.ts';
import { fillSlots, releaseStranded } from './rollout.ts';
import { type Slot, wantedSlots } from './slots.ts';
import { createWork, groupBySlot, type Orchestration, type Work } from './work.ts';

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
const HISTORY = 5;

/** What to do about the tasks of one service; `service` is undefined when nothing is left of it but tasks. */
export function orchestrate(service: Service | undefined, tasks: readonly Task[], context: Context): Orchestration {
  const work = createWork(tasks, context);
  for (const task of tasks) followUp(work, service, task);
  const wantedService = service?.removed ? undefined : service;
  const slots = wantedService === undefined ? [] : wantedSlots(wantedService, context.nodes);
  const wanted = new Map(slots.map((slot) => [slot.slot, slot]));
  for (const task of work.all()) {
    if (task.desired !== 'running' && task.desired !== 'missing') continue;
    if (!wanted.has(task.slot) || isTerminal(task.status.state)) retire(work, service, task);
    else if (isDown(work, task)) miss(work, service, task);
    else if (isUnhealthy(task)) fail(work, service, task);
  }
  if (wantedService !== undefined) {
    settleHostPorts(work, wantedService);
    fillSlots(work, wantedService, slots);
    placeTasks(work, wantedService, wanted);
    releaseStranded(work, wantedService);
  }
  forget(work, wanted);
  const over = whatIsOver(work, service);
  return { ...work.result(), ...(over === undefined ? {} : { service: over }) };
}

/** What follows from a task's own state, whatever its service wants. */
function followUp(work: Work, service: Service | undefined, task: Task): void {
  if (task.nodeId !== undefined && !work.nodes.has(task.nodeId) && !isTerminal(task.status.state)) {
    const error = 'its node was removed from the cluster';
    const status = { state: 'orphaned' as const, message: '', error, since: work.context.now };
    work.put({ ...task, desired: 'shutdown', status });
  } else if (task.desired === 'drain') advanceDrain(work, service, task);
}

function isDown(work: Work, task: Task): boolean {
  return task.nodeId !== undefined && work.nodes.get(task.nodeId)?.state !== 'ready';
}

/** Its node is down: another is to take its place, but nobody knows that it does not run. */
function miss(work: Work, service: Service | undefined, task: Task): void {
  if (task.status.state !== 'running') retire(work, service, task);
  else if (task.desired !== 'missing') work.put({ ...task, desired: 'missing' });
}

function isUnhealthy(task: Task): boolean {
  return task.desired === 'running' && task.status.state === 'running' && task.status.health === 'unhealthy';
}

/** An unhealthy task goes the way of every task that leaves, and has failed at its end. */
function fail(work: Work, service: Service | undefined, task: Task): void {
  const error = `unhealthy: ${task.status.message || 'its healthcheck failed'}`;
  retire(work, service, { ...task, failure: { error, since: work.context.now } });
}

/** Ended tasks beyond the history, and all of slots that are gone. */
function forget(work: Work, wanted: ReadonlyMap<number, Slot>): void {
  const ended = work.all().filter((task) => isTerminal(task.status.state) && task.desired !== 'running');
  for (const [slot, tasks] of groupBySlot(ended)) {
    const keep = wanted.has(slot) ? HISTORY : 0;
    tasks.sort((a, b) => b.status.since - a.status.since || b.createdAt - a.createdAt);
    for (const task of tasks.slice(keep)) work.drop(task);
  }
}

/** Leaving ports that are over, and a removed service with nothing left of it. */
function whatIsOver(work: Work, service: Service | undefined): Orchestration['service'] {
  if (service?.removed) return work.all().length === 0 ? { remove: service } : undefined;
  if (service?.leaving === undefined) return undefined;
  const left = stillLeaving(service, work.all(), work.context);
  for (const { deadline } of left) work.wake(deadline);
  if (left.length === service.leaving.length) return undefined;
  const { leaving: _, ...rest } = service;
  return { put: { ...rest, ...(left.length === 0 ? {} : { leaving: left }), updatedAt: work.context.now } };
}
