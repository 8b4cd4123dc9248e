import { isTerminal, type Node, type Service, type Task } from '../model/cluster.ts';
import { allocateAddresses } from './allocate.ts';
import type { Context } from './context.ts';
import { advanceDrain, leave } from './leave.ts';
import { restart } from './restart.ts';
import { matches, type Placement, schedule, suits } from './schedule.ts';
import { type Slot, wantedSlots } from './slots.ts';

/**
 * INVARIANTS
 * - A slot has at most one task that is wanted to run, but for the moment in which a new generation takes over.
 * - A task leaves a published port before it is stopped, and what replaces it runs before that where the spec changed.
 * - A task that still runs when its node returns is not stopped for one that does not run yet.
 * - An ended task is never started again; its replacement is a new task in the same slot.
 * - Asked twice with the same input, the second answer is empty.
 */

/** Ended tasks kept for `service ps`, a slot. */
const HISTORY = 5;

export interface Orchestration {
  /** New tasks (version 0) and changed ones (the version that was read). */
  put: Task[];
  /** Tasks to forget. */
  remove: Task[];
  /** Wall clock, ms: look again then, even if nothing happens. */
  wakeAt?: number;
}

/** What to do about the tasks of one service; `service` is undefined once it was removed. */
export function orchestrate(service: Service | undefined, tasks: readonly Task[], context: Context): Orchestration {
  const work = new Work(tasks, context);
  for (const task of tasks) followUp(work, task);
  const slots = service === undefined ? [] : wantedSlots(service, context.nodes);
  const wanted = new Map(slots.map((slot) => [slot.slot, slot]));
  for (const task of work.all()) {
    if (task.desired !== 'running' && task.desired !== 'missing') continue;
    if (!keeps(work, task, service, wanted)) retire(work, task);
    else if (isDown(work, task)) miss(work, task);
  }
  if (service !== undefined) {
    fillSlots(work, service, slots);
    placeTasks(work, service, wanted);
  }
  forget(work, wanted);
  return work.result();
}

/** The tasks as this decision leaves them, and what it changed. */
class Work {
  readonly context: Context;
  readonly nodes: ReadonlyMap<string, Node>;
  readonly #before: ReadonlyMap<string, Task>;
  readonly #now: Map<string, Task>;
  #wakeAt = Number.POSITIVE_INFINITY;

  constructor(tasks: readonly Task[], context: Context) {
    this.context = context;
    this.nodes = new Map(context.nodes.map((node) => [node.id, node]));
    this.#before = new Map(tasks.map((task) => [task.id, task]));
    this.#now = new Map(this.#before);
  }

  all(): Task[] {
    return [...this.#now.values()];
  }

  /** Takes a task as it now is; undefined or the same object means no change. */
  put(task: Task): void {
    this.#now.set(task.id, task);
  }

  drop(task: Task): void {
    this.#now.delete(task.id);
  }

  wake(at: number): void {
    this.#wakeAt = Math.min(this.#wakeAt, at);
  }

  result(): Orchestration {
    const changed = this.all().filter((task) => task !== this.#before.get(task.id));
    return {
      put: changed.map((task) => ({ ...task, updatedAt: this.context.now })),
      remove: [...this.#before.values()].filter((task) => !this.#now.has(task.id)),
      ...(this.#wakeAt === Number.POSITIVE_INFINITY ? {} : { wakeAt: this.#wakeAt }),
    };
  }
}

/** What follows from a task's own state, whatever its service wants. */
function followUp(work: Work, task: Task): void {
  const { now } = work.context;
  if (task.nodeId !== undefined && !work.nodes.has(task.nodeId) && !isTerminal(task.status.state)) {
    const error = 'its node was removed from the cluster';
    const status = { state: 'orphaned' as const, message: '', error, since: now };
    work.put({ ...task, desired: 'shutdown', status });
    return;
  }
  if (task.desired !== 'drain') return;
  const next = advanceDrain(task, work.context);
  if (next !== task) work.put(next);
  else if (task.drainDeadline !== undefined) work.wake(task.drainDeadline);
}

/** Whether a task that is wanted to run may go on. Ended ones stay for `fillSlots` to replace. */
function keeps(work: Work, task: Task, service: Service | undefined, wanted: ReadonlyMap<number, Slot>): boolean {
  if (service === undefined || !wanted.has(task.slot)) return false;
  if (isTerminal(task.status.state)) return false;
  if (task.nodeId === undefined) return true;
  const node = work.nodes.get(task.nodeId)!;
  return node.availability !== 'drain' && matches(node, service.spec.constraints);
}

function isDown(work: Work, task: Task): boolean {
  return task.nodeId !== undefined && work.nodes.get(task.nodeId)?.state !== 'ready';
}

/** Its node is down: another is to take its place, but nobody knows that it does not run. */
function miss(work: Work, task: Task): void {
  if (task.status.state !== 'running') retire(work, task);
  else if (task.desired !== 'missing') work.put({ ...task, desired: 'missing' });
}

/** Missing tasks whose node is back: the slot's own again where nothing runs in it, else no longer wanted. */
function takeBack(work: Work, tasks: readonly Task[], generation: number): void {
  for (const task of tasks) {
    if (task.desired !== 'missing' || isDown(work, task)) continue;
    const served = tasks.some((other) => other.desired === 'running' && other.status.state === 'running');
    if (served || task.generation !== generation) retire(work, task);
    else work.put({ ...task, desired: 'running' });
  }
}

/** One running task in each wanted slot; a new generation takes over slot by slot, new before old. */
function fillSlots(work: Work, service: Service, slots: readonly Slot[]): void {
  for (const tasks of groupBySlot(work.all()).values()) takeBack(work, tasks, service.taskGeneration);
  const bySlot = groupBySlot(work.all());
  const outdated: { slot: Slot; old: Task[] }[] = [];
  let takingOver = false;
  for (const slot of slots) {
    const tasks = bySlot.get(slot.slot) ?? [];
    const live = tasks.filter((task) => task.desired === 'running');
    const current = live.filter((task) => task.generation === service.taskGeneration);
    const old = live.filter((task) => task.generation !== service.taskGeneration);
    const [best, ...surplus] = current.sort(byMerit);
    for (const task of surplus) retire(work, task);
    if (best === undefined && old.length === 0) create(work, service, slot, tasks);
    else if (best === undefined) outdated.push({ slot, old });
    else if (old.length > 0 && best.status.state === 'running') for (const task of old) retire(work, task);
    else if (old.length > 0) takingOver = true;
  }
  // What does not even run now needs no successor first.
  for (const { slot, old } of outdated) {
    const serves = old.some((task) => task.status.state === 'running');
    if (serves && takingOver) continue;
    if (serves) takingOver = true;
    else for (const task of old) retire(work, task);
    create(work, service, slot, bySlot.get(slot.slot) ?? []);
  }
}

/** Running before starting before waiting; then the older one. */
function byMerit(a: Task, b: Task): number {
  const merit = (task: Task) => (task.status.state === 'running' ? 0 : task.nodeId === undefined ? 2 : 1);
  return merit(a) - merit(b) || a.createdAt - b.createdAt || (a.id < b.id ? -1 : 1);
}

function retire(work: Work, task: Task): void {
  work.put(leave(task, work.nodes, work.context));
}

/** A new task for a slot, unless its last one ended by itself and the restart policy leaves it at that. */
function create(work: Work, service: Service, slot: Slot, history: readonly Task[]): void {
  const { context } = work;
  const last = history.reduce<Task | undefined>(
    (newest, task) => (newest && !isNewer(task, newest) ? newest : task),
    undefined,
  );
  const endedItself =
    last !== undefined &&
    last.generation === service.taskGeneration &&
    (last.status.state === 'complete' || last.status.state === 'failed');
  const policy = endedItself ? restart({ ...last, spec: service.spec }) : { notBefore: 0, restarts: 0 };
  if (policy === undefined) return;
  const task: Task = {
    id: context.newId(),
    version: 0,
    createdAt: context.now,
    updatedAt: context.now,
    serviceId: service.id,
    serviceName: service.name,
    slot: slot.slot,
    generation: service.taskGeneration,
    spec: service.spec,
    addresses: [],
    desired: 'running',
    status: { state: 'new', message: '', error: '', since: context.now },
    restarts: policy.restarts,
    ...(policy.notBefore > context.now ? { notBefore: policy.notBefore } : {}),
  };
  work.put(task);
}

function isNewer(task: Task, other: Task): boolean {
  return task.createdAt > other.createdAt || (task.createdAt === other.createdAt && task.restarts > other.restarts);
}

/** Nodes and addresses for tasks that wait for them and are due. */
function placeTasks(work: Work, service: Service, wanted: ReadonlyMap<number, Slot>): void {
  const { context } = work;
  for (const task of work.all()) {
    if (task.desired !== 'running' || task.nodeId !== undefined || isTerminal(task.status.state)) continue;
    if (task.notBefore !== undefined && task.notBefore > context.now) {
      work.wake(task.notBefore);
      continue;
    }
    const mine = work.all().filter((other) => !isTerminal(other.status.state) && other.desired === 'running');
    const placement = place(service, wanted.get(task.slot), mine, context);
    const reason = 'node' in placement ? assign(work, task, placement.node) : placement.reason;
    if (reason !== undefined && (task.status.state !== 'pending' || task.status.message !== reason)) {
      work.put({ ...task, status: { state: 'pending', message: reason, error: '', since: context.now } });
    }
  }
}

function place(service: Service, slot: Slot | undefined, mine: readonly Task[], context: Context): Placement {
  if (slot?.node === undefined) return schedule(service, mine, context);
  return suits(slot.node, service) ? { node: slot.node } : { reason: `${slot.node.name} takes no new tasks now` };
}

/** Gives the task its node and addresses, or the reason why that cannot be. */
function assign(work: Work, task: Task, node: Node): string | undefined {
  const { context } = work;
  const fresh = work.all().filter((other) => other.nodeId === node.id);
  const there = [...context.tasksOn(node.id).filter((other) => !fresh.some((own) => own.id === other.id)), ...fresh];
  const addresses = allocateAddresses(node, context.networks, there);
  if (addresses === undefined) return `${node.name} has no free address left in its block of a network`;
  const status = { state: 'assigned' as const, message: '', error: '', since: context.now };
  work.put({ ...task, nodeId: node.id, addresses, status });
  return undefined;
}

function groupBySlot(tasks: readonly Task[]): Map<number, Task[]> {
  const groups = new Map<number, Task[]>();
  for (const task of tasks) {
    const group = groups.get(task.slot);
    if (group) group.push(task);
    else groups.set(task.slot, [task]);
  }
  return groups;
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
