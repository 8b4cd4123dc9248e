import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { orchestrate } from '../decide/orchestrate.ts';
import { isTerminal, type Node, type Stored, type Task } from '../model/cluster.ts';
import { sameValue } from '../model/equality.ts';
import type { Change, Store } from '../store/store.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { createDraft } from './draft.ts';
import { withJoins } from './joins.ts';
import type { NodeReports } from './node-reports.ts';
import type { Writer } from './writer.ts';

/** Writes after which a batch is committed; the rest goes into the next one. */
const BATCH = 500;
/** Pause after a commit that failed, ms: a full disk is looked at again, but not all the time. */
const RETRY = 1_000;

/**
 * Asks `decide` about every service that something happened to, and commits the answers. Nothing is polled: what may
 * need a decision is marked, and due times set one timer.
 */
export interface Conductor {
  /** Takes note of one commit; whatever it may ask for is decided soon. */
  onCommit(changes: readonly Change[]): void;
  /** The nodes said something that draining tasks may wait for. */
  onDrainProgress(): void;
  /** Resolves when what the commits so far ask for was decided and sent to the nodes, or could not be; at most one batch. */
  decided(): Promise<void>;
  /** Marks everything, as after a start. */
  markAll(): void;
  stop(): void;
}

export interface ConductorOptions {
  store: Store;
  index: ClusterIndex;
  reports: NodeReports;
  writer: Writer;
  clock: Clock;
  log: Log;
}

function release(waiting: (() => void)[]): void {
  for (const resolve of waiting) resolve();
}

export function createConductor({ store, index, reports, writer, clock, log }: ConductorOptions): Conductor {
  const dirty = new Set<string>();
  /** When to look at a service again, wall clock, ms. */
  const due = new Map<string, number>();
  let cancelTimer = () => {};
  let timerAt = Number.POSITIVE_INFINITY;
  let running = false;
  let stopped = false;
  const waiting: (() => void)[] = [];

  function mark(serviceId: string): void {
    dirty.add(serviceId);
    kick();
  }

  function kick(): void {
    if (running || stopped || dirty.size === 0) return;
    running = true;
    // After everything that is happening right now, so that a burst is one decision.
    setImmediate(() => {
      const decision = writer.run(step).then(
        () => {
          running = false;
          kick();
        },
        (thrown) => {
          log.error({ err: thrown }, `decisions could not be stored, trying again: ${messageOf(thrown)}`);
          clock.after(RETRY, () => {
            running = false;
            kick();
          });
        },
      );
      decision.then(() => setImmediate(release, waiting.splice(0))); // what goes to nodes is on its way by then
    });
  }

  async function step(): Promise<void> {
    if (stopped) return;
    const draft = createDraft(index, reports, clock.now());
    const taken: string[] = [];
    let writes = 0;
    for (const serviceId of dirty) {
      if (writes >= BATCH) break;
      dirty.delete(serviceId);
      taken.push(serviceId);
      const decided = orchestrate(index.declared(serviceId), draft.tasksOfService(serviceId), draft.context);
      draft.add(decided);
      writes += decided.put.length + decided.remove.length + Number(decided.service !== undefined);
      if (decided.wakeAt === undefined) due.delete(serviceId);
      else due.set(serviceId, decided.wakeAt);
    }
    setTimer();
    if (writes === 0) return;
    try {
      await store.transact(withJoins(draft.writes(), index, clock.now()));
    } catch (thrown) {
      for (const serviceId of taken) dirty.add(serviceId);
      throw thrown;
    }
  }

  function setTimer(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const at of due.values()) next = Math.min(next, at);
    if (next === timerAt) return;
    cancelTimer();
    timerAt = next;
    if (next === Number.POSITIVE_INFINITY) return;
    cancelTimer = clock.after(Math.max(1, next - clock.now()), () => {
      timerAt = Number.POSITIVE_INFINITY;
      const now = clock.now();
      for (const [serviceId, at] of due) {
        if (at > now) continue;
        due.delete(serviceId);
        mark(serviceId);
      }
      setTimer();
    });
  }

  /** A node that comes, goes or changes matters to its own tasks, to those without a node, and to global services. */
  function onNode(before: Node | undefined, after: Node | undefined): void {
    const matters = (node: Node | undefined) =>
      node && [node.name, node.role, node.labels, node.availability, node.state];
    if (sameValue(matters(before), matters(after))) return;
    for (const task of index.tasksOnNode((after ?? before)!.id)) mark(task.serviceId);
    for (const ids of [index.waiting(), index.globals(), index.draining()]) for (const id of ids) mark(id);
  }

  /** A host port that is free again may be what a task of any service waits for. */
  function onTask(before: Task | undefined, after: Task | undefined): void {
    mark((after ?? before)!.serviceId);
    const held = before?.hostPorts?.length ?? 0;
    const holds = after === undefined || isTerminal(after.status.state) ? 0 : (after.hostPorts?.length ?? 0);
    if (holds < held) for (const id of index.waiting()) mark(id);
  }

  return {
    onCommit(changes) {
      for (const { collection, id, before, after } of changes) {
        const [old, now] = [before, after] as [Stored | undefined, Stored | undefined];
        if (collection === 'services') mark(id);
        else if (collection === 'tasks') onTask(old as Task | undefined, now as Task | undefined);
        else if (collection === 'nodes') onNode(old as Node | undefined, now as Node | undefined);
      }
    },
    onDrainProgress() {
      for (const id of index.draining()) mark(id);
    },
    decided: () => (running ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve()),
    markAll() {
      for (const service of index.services()) mark(service.id);
      for (const id of index.servicesWithTasks()) mark(id);
    },
    stop() {
      stopped = true;
      cancelTimer();
    },
  };
}
