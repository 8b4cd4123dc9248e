import type { Service, Task } from '../model/cluster.ts';
import { DEFAULT_UPDATE, type ServiceSpec, type UpdateConfig } from '../model/spec.ts';
import { createTask, newestTask } from './create-task.ts';
import { isUp } from './endpoint-state.ts';
import { fixedHostPorts, hasHostPortConflict } from './host-ports.ts';
import { matchesConstraints } from './schedule.ts';
import type { Slot } from './slots.ts';
import { groupBySlot, type TaskChanges } from './task-changes.ts';
import { beginTermination } from './terminate.ts';

/*
 * One task of the service's generation in each desired slot.
 *
 * A slot is replaced when its task is of an earlier generation (an update: so many slots at a time, in the declared
 * order) or must leave its node (immediately, new before old). A slot counts as busy from the moment its serving task is
 * ended until `delay` after its successor is up; a slot is begun while fewer than `parallelism` are busy. All of it is
 * derived from the stored tasks, so a manager that starts continues an update, and a generation that never becomes
 * healthy never replaces a second slot.
 */

/** How a service is updated: as declared, except that two tasks cannot share a fixed host port. */
export function updateConfigOf(spec: ServiceSpec): UpdateConfig {
  const update = spec.update ?? DEFAULT_UPDATE;
  return fixedHostPorts(spec).length > 0 ? { ...update, order: 'stop-first' } : update;
}

interface SlotTasks {
  slot: Slot;
  /** Every task of the slot, ended ones too. */
  all: readonly Task[];
  /** The one of the current generation on a node where it may stay. */
  current: Task | undefined;
  /** Others that are up. */
  others: Task[];
}

export function fillSlots(changes: TaskChanges, service: Service, slots: readonly Slot[]): void {
  for (const tasks of groupBySlot(changes.all()).values()) restoreReturned(changes, service, tasks);
  const bySlot = groupBySlot(changes.all());
  const update = updateConfigOf(service.spec);
  const unfinished = changes.all().some((task) => task.generation !== service.taskGeneration && isServing(task));
  const waiting: SlotTasks[] = [];
  const busyUntil: number[] = [];
  for (const slot of slots) {
    const slotTasks = classifySlot(changes, service, slot, bySlot.get(slot.slot) ?? []);
    const { all, others } = slotTasks;
    let current = slotTasks.current;
    if (current === undefined && others.length > 0 && !others.some((task) => mustMove(changes, service, task))) {
      if (hasFinished(service, all)) for (const task of others) beginTermination(changes, service, task);
      else waiting.push(slotTasks);
      continue;
    }
    if (current === undefined)
      current = createTask(changes, service, slot.slot, all, continuesUpdate(service, all, unfinished));
    else if (isUp(current)) for (const task of others) beginTermination(changes, service, task);
    // The old one is back from a node that was down, or the order was changed: the slot's update has begun already.
    else if (update.order === 'stop-first') terminateOutdated(changes, service, others);
    const until = slotBusyUntil(service, current ?? newestTask(all), update.delay);
    if (until > changes.context.now) busyUntil.push(until);
  }
  const capacity = update.parallelism === 0 ? waiting.length : update.parallelism - busyUntil.length;
  for (const { slot, all, others } of waiting.slice(0, Math.max(0, capacity))) {
    const created = createTask(changes, service, slot.slot, all, true);
    if (created !== undefined && update.order === 'stop-first') terminateOutdated(changes, service, others);
  }
  const next = Math.min(...busyUntil);
  if (waiting.length > capacity && Number.isFinite(next)) changes.wake(next);
}

/** The tasks of a slot; of several of the current generation the best is kept, and a task that is not up needs no successor. */
function classifySlot(changes: TaskChanges, service: Service, slot: Slot, all: readonly Task[]): SlotTasks {
  const live = all.filter((task) => task.desired === 'running');
  const isCurrent = (task: Task) => task.generation === service.taskGeneration && !mustMove(changes, service, task);
  const [current, ...surplus] = live.filter(isCurrent).sort(byPreference);
  const rest = live.filter((task) => !isCurrent(task));
  for (const task of [...surplus, ...rest.filter((other) => !isUp(other))]) beginTermination(changes, service, task);
  return { slot, all, current, others: rest.filter(isUp) };
}

function isServing(task: Task): boolean {
  return task.desired === 'running' && isUp(task);
}

/** Whether a task must leave its node: drained, no longer suitable, or a host port of the service is in use there. */
function mustMove(changes: TaskChanges, service: Service, task: Task): boolean {
  const node = task.nodeId === undefined ? undefined : changes.nodes.get(task.nodeId);
  if (node === undefined) return false;
  return (
    node.availability === 'drain' ||
    !matchesConstraints(node, service.spec.constraints) ||
    hasHostPortConflict(task, service)
  );
}

/** Ends tasks of earlier generations, except those that must move, which end in their own order. */
function terminateOutdated(changes: TaskChanges, service: Service, tasks: readonly Task[]): void {
  for (const task of tasks) if (!mustMove(changes, service, task)) beginTermination(changes, service, task);
}

/** Up before placed before waiting; then the older one. */
function byPreference(a: Task, b: Task): number {
  const rank = (task: Task) => (isUp(task) ? 0 : task.nodeId === undefined ? 2 : 1);
  return rank(a) - rank(b) || a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1);
}

/** Missing tasks whose node is back run again where no other task of the slot is up; otherwise they end. */
function restoreReturned(changes: TaskChanges, service: Service, tasks: readonly Task[]): void {
  for (const task of tasks) {
    if (task.desired !== 'missing' || changes.nodes.get(task.nodeId!)?.state !== 'ready') continue;
    const isServed = tasks.some(isServing);
    if (isServed) beginTermination(changes, service, task);
    else changes.put({ ...task, desired: 'running' });
  }
}

/**
 * Whether the successor of a slot's last task is still part of an update: the update created the last one, and it never
 * accepted connections or ended by itself before the update had reached every slot.
 */
function continuesUpdate(service: Service, all: readonly Task[], unfinished: boolean): boolean {
  const last = newestTask(all);
  if (last?.takesOver !== true) return false;
  if (last.joinedAt === undefined) return true;
  const failed = last.status.state === 'failed' || last.failure !== undefined;
  return unfinished && failed && last.generation === service.taskGeneration;
}

/** Until when (wall clock, ms) a slot counts as being updated; 0 when it does not. */
function slotBusyUntil(service: Service, task: Task | undefined, delay: number): number {
  if (task?.takesOver !== true || task.generation !== service.taskGeneration) return 0;
  if (isUp(task)) return (task.joinedAt ?? task.status.since) + delay;
  return task.status.state === 'complete' ? task.status.since + delay : Number.POSITIVE_INFINITY;
}

/** Whether the current generation has completed in a slot and must not be restarted. */
function hasFinished(service: Service, all: readonly Task[]): boolean {
  const last = newestTask(all);
  if (last?.generation !== service.taskGeneration || last.status.state !== 'complete') return false;
  return service.spec.restart.condition !== 'any';
}

/**
 * Ends tasks that must leave their node although no other node is suitable; their successors stay pending.
 * To be called after placement.
 */
export function terminateUnplaceable(changes: TaskChanges, service: Service): void {
  for (const tasks of groupBySlot(changes.all()).values()) {
    const live = tasks.filter((task) => task.desired === 'running');
    if (!live.some((task) => task.status.state === 'pending' && task.nodeId === undefined)) continue;
    for (const task of live) if (mustMove(changes, service, task)) beginTermination(changes, service, task);
  }
}
