import type { Service, Task } from '../model/cluster.ts';
import { type ServiceSpec, UPDATE_DEFAULT, type UpdateConfig } from '../model/spec.ts';
import { create, newest } from './create.ts';
import { fixedHostPorts, isCrowdedOut } from './host-ports.ts';
import { retire } from './leave.ts';
import { matches } from './schedule.ts';
import { isUp } from './serve.ts';
import type { Slot } from './slots.ts';
import { groupBySlot, type Work } from './work.ts';

/*
 * One task of the service's generation in each wanted slot.
 *
 * A slot is replaced when its task is of an earlier generation (an update: so many slots at a time, in the declared
 * order) or has to leave its node (at once, new before old). A slot counts as busy from the moment in which the task
 * that serves there is given up until `delay` after its successor is up; a new one is begun while fewer than
 * `parallelism` are busy. All of it follows from the tasks as they are stored, so a manager that starts goes on where
 * the last one was, and a generation that never comes up never takes another slot.
 */

/** How a service is updated: as declared, but two tasks cannot share a fixed host port. */
export function updateOf(spec: ServiceSpec): UpdateConfig {
  const update = spec.update ?? UPDATE_DEFAULT;
  return fixedHostPorts(spec).length > 0 ? { ...update, order: 'stop-first' } : update;
}

interface Holding {
  slot: Slot;
  /** Every task of the slot, ended ones too. */
  all: readonly Task[];
  /** The one of today's generation in the place it may stay. */
  best: Task | undefined;
  /** Others that are up. */
  others: Task[];
}

export function fillSlots(work: Work, service: Service, slots: readonly Slot[]): void {
  for (const tasks of groupBySlot(work.all()).values()) takeBack(work, service, tasks);
  const bySlot = groupBySlot(work.all());
  const update = updateOf(service.spec);
  const unfinished = work.all().some((task) => task.generation !== service.taskGeneration && isWanted(task));
  const waiting: Holding[] = [];
  const busyUntil: number[] = [];
  for (const slot of slots) {
    const holding = sortOut(work, service, slot, bySlot.get(slot.slot) ?? []);
    const { all, others } = holding;
    let best = holding.best;
    if (best === undefined && others.length > 0 && !others.some((task) => moves(work, service, task))) {
      if (hasFinished(service, all)) for (const task of others) retire(work, service, task);
      else waiting.push(holding);
      continue;
    }
    if (best === undefined) best = create(work, service, slot.slot, all, inherits(service, all, unfinished));
    else if (isUp(best)) for (const task of others) retire(work, service, task);
    // Begun the other way round, or the old one is back from a node that was down: it is this slot's turn already.
    else if (update.order === 'stop-first') retireOutdated(work, service, others);
    const until = busyEnd(service, best ?? newest(all), update.delay);
    if (until > work.context.now) busyUntil.push(until);
  }
  const room = update.parallelism === 0 ? waiting.length : update.parallelism - busyUntil.length;
  for (const { slot, all, others } of waiting.slice(0, Math.max(0, room))) {
    const made = create(work, service, slot.slot, all, true);
    if (made !== undefined && update.order === 'stop-first') retireOutdated(work, service, others);
  }
  const next = Math.min(...busyUntil);
  if (waiting.length > room && Number.isFinite(next)) work.wake(next);
}

/** What a slot holds; of several tasks of today's generation the best stays, and what is not up needs no successor. */
function sortOut(work: Work, service: Service, slot: Slot, all: readonly Task[]): Holding {
  const live = all.filter((task) => task.desired === 'running');
  const fits = (task: Task) => task.generation === service.taskGeneration && !moves(work, service, task);
  const [best, ...surplus] = live.filter(fits).sort(byMerit);
  const rest = live.filter((task) => !fits(task));
  for (const task of [...surplus, ...rest.filter((other) => !isUp(other))]) retire(work, service, task);
  return { slot, all, best, others: rest.filter(isUp) };
}

function isWanted(task: Task): boolean {
  return task.desired === 'running' && isUp(task);
}

/** Whether a task has to leave its node: drained, no longer suitable, or the service's host port is another's there. */
function moves(work: Work, service: Service, task: Task): boolean {
  const node = task.nodeId === undefined ? undefined : work.nodes.get(task.nodeId);
  if (node === undefined) return false;
  return node.availability === 'drain' || !matches(node, service.spec.constraints) || isCrowdedOut(task, service);
}

/** Those that only wait for their successor; one that moves has an order of its own. */
function retireOutdated(work: Work, service: Service, tasks: readonly Task[]): void {
  for (const task of tasks) if (!moves(work, service, task)) retire(work, service, task);
}

/** Up before placed before waiting; then the older one. */
function byMerit(a: Task, b: Task): number {
  const merit = (task: Task) => (isUp(task) ? 0 : task.nodeId === undefined ? 2 : 1);
  return merit(a) - merit(b) || a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1);
}

/** Missing tasks whose node is back: the slot's own again where nothing else is up, else no longer wanted. */
function takeBack(work: Work, service: Service, tasks: readonly Task[]): void {
  for (const task of tasks) {
    if (task.desired !== 'missing' || work.nodes.get(task.nodeId!)?.state !== 'ready') continue;
    const served = tasks.some(isWanted);
    if (served) retire(work, service, task);
    else work.put({ ...task, desired: 'running' });
  }
}

/**
 * Whether the successor of a slot's last task is still part of an update: the last one was made by it and never took
 * connections, or it did but ended by itself before the update had reached every slot.
 */
function inherits(service: Service, all: readonly Task[], unfinished: boolean): boolean {
  const last = newest(all);
  if (last?.takesOver !== true) return false;
  if (last.joinedAt === undefined) return true;
  const failed = last.status.state === 'failed' || last.failure !== undefined;
  return unfinished && failed && last.generation === service.taskGeneration;
}

/** Until when (wall clock, ms) a slot counts as being updated; 0 when it does not. */
function busyEnd(service: Service, task: Task | undefined, delay: number): number {
  if (task?.takesOver !== true || task.generation !== service.taskGeneration) return 0;
  if (isUp(task)) return (task.joinedAt ?? task.status.since) + delay;
  return task.status.state === 'complete' ? task.status.since + delay : Number.POSITIVE_INFINITY;
}

/** Whether today's generation has done its work in a slot, and is not to be started again. */
function hasFinished(service: Service, all: readonly Task[]): boolean {
  const last = newest(all);
  if (last?.generation !== service.taskGeneration || last.status.state !== 'complete') return false;
  return service.spec.restart.condition !== 'any';
}

/**
 * Tasks that have to leave their node although no other suits: they go, and their successors wait for a place.
 * To be called when all that can be placed is placed.
 */
export function releaseStranded(work: Work, service: Service): void {
  for (const tasks of groupBySlot(work.all()).values()) {
    const live = tasks.filter((task) => task.desired === 'running');
    if (!live.some((task) => task.status.state === 'pending' && task.nodeId === undefined)) continue;
    for (const task of live) if (moves(work, service, task)) retire(work, service, task);
  }
}
