import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { unusedGenerations } from '../../decide/generations.ts';
import { orchestrate } from '../../decide/orchestrate.ts';
import type { Node, Stored, Task } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { Change, Store, Write } from '../../store/store.ts';
import type { ClusterView, NodeObservations } from './cluster-view.ts';
import { withEndpointJoins } from './endpoint-join.ts';
import { createStagedState } from './staged-state.ts';
import { remove, type Writer } from './writer.ts';

/** Writes after which a batch is committed; the remaining services are decided in the next one. */
const BATCH_WRITES = 500;
/** Milliseconds between attempts to commit, for example to a full disk. */
const RETRY_DELAY = 1_000;

/**
 * Runs `decide` for every service affected by a change and commits the result. Nothing is polled: services that may need
 * a decision are marked, and due times set one timer.
 */
export interface Orchestrator {
  /** Marks the services that one commit affects. */
  onCommit(changes: readonly Change[]): void;
  /** The nodes reported something that draining tasks may wait for. */
  onDrainProgress(): void;
  /** Resolves when the consequences of the commits so far were decided and sent to the nodes, or failed; at most one batch. */
  whenDecided(): Promise<void>;
  /** Marks everything, as after a start. */
  markAllServices(): void;
  stop(): void;
}

export interface OrchestratorOptions {
  store: Store;
  view: ClusterView;
  observations: NodeObservations;
  writer: Writer;
  clock: Clock;
  log: Log;
}

function resolveAll(waiting: (() => void)[]): void {
  for (const resolve of waiting) resolve();
}

export function createOrchestrator({
  store,
  view,
  observations,
  writer,
  clock,
  log,
}: OrchestratorOptions): Orchestrator {
  const dirty = new Set<string>();
  /** When to decide about a service again, wall clock, ms. */
  const dueTimes = new Map<string, number>();
  let cancelTimer = () => {};
  let timerAt = Number.POSITIVE_INFINITY;
  let running = false;
  let stopped = false;
  const waiting: (() => void)[] = [];

  function markService(serviceId: string): void {
    dirty.add(serviceId);
    scheduleBatch();
  }

  function scheduleBatch(): void {
    if (running || stopped || dirty.size === 0) return;
    running = true;
    // After the events that are already queued, so that a burst is one decision.
    setImmediate(() => {
      const decision = writer.run(decideBatch).then(
        () => {
          running = false;
          scheduleBatch();
        },
        (thrown) => {
          log.error({ err: thrown }, `cannot store decisions; retrying: ${messageOf(thrown)}`);
          clock.after(RETRY_DELAY, () => {
            running = false;
            scheduleBatch();
          });
        },
      );
      decision.then(() => setImmediate(resolveAll, waiting.splice(0))); // session feeds send in a setImmediate, too
    });
  }

  async function decideBatch(): Promise<void> {
    if (stopped) return;
    const staged = createStagedState(view, observations, clock.now());
    const batch: string[] = [];
    const generations: Write[] = [];
    let writes = 0;
    for (const serviceId of dirty) {
      if (writes >= BATCH_WRITES) break;
      dirty.delete(serviceId);
      batch.push(serviceId);
      const decision = orchestrate(view.serviceOrRemoved(serviceId), staged.tasksOfService(serviceId), staged.context);
      staged.add(decision);
      writes += decision.put.length + decision.remove.length + Number(decision.service !== undefined);
      // A generation outlives its last task by one commit, so that watchers of the removal can still describe the task.
      const unused = unusedGenerations(
        view.generations(serviceId),
        view.serviceOrRemoved(serviceId),
        view.tasksOfService(serviceId),
      );
      generations.push(...unused.map((generation) => remove('generations', generation)));
      writes += unused.length;
      if (decision.wakeAt === undefined) dueTimes.delete(serviceId);
      else dueTimes.set(serviceId, decision.wakeAt);
    }
    setTimer();
    if (writes === 0) return;
    try {
      await store.transact(withEndpointJoins([...staged.writes(), ...generations], view, clock.now()));
    } catch (thrown) {
      for (const serviceId of batch) dirty.add(serviceId);
      throw thrown;
    }
  }

  function setTimer(): void {
    let next = Number.POSITIVE_INFINITY;
    for (const at of dueTimes.values()) next = Math.min(next, at);
    if (next === timerAt) return;
    cancelTimer();
    timerAt = next;
    if (next === Number.POSITIVE_INFINITY) return;
    cancelTimer = clock.after(Math.max(1, next - clock.now()), () => {
      timerAt = Number.POSITIVE_INFINITY;
      const now = clock.now();
      for (const [serviceId, at] of dueTimes) {
        if (at > now) continue;
        dueTimes.delete(serviceId);
        markService(serviceId);
      }
      setTimer();
    });
  }

  /** A node that is added, removed or changed affects its own tasks, tasks without a node, and global services. */
  function onNodeChange(before: Node | undefined, after: Node | undefined): void {
    const relevantFields = (node: Node | undefined) =>
      node && [node.name, node.role, node.labels, node.availability, node.state, node.impairments];
    if (sameValue(relevantFields(before), relevantFields(after))) return;
    for (const task of view.tasksOnNode((after ?? before)!.id)) markService(task.serviceId);
    for (const ids of [view.waiting(), view.globalServices(), view.draining()]) for (const id of ids) markService(id);
  }

  /** A task of any service may wait for a host port that becomes free. */
  function onTaskChange(before: Task | undefined, after: Task | undefined): void {
    markService((after ?? before)!.serviceId);
    const portsBefore = before?.hostPorts?.length ?? 0;
    const portsAfter = after === undefined || isTerminal(after.status.state) ? 0 : (after.hostPorts?.length ?? 0);
    if (portsAfter < portsBefore) for (const id of view.waiting()) markService(id);
  }

  return {
    onCommit(changes) {
      for (const { collection, id, before, after } of changes) {
        const [old, now] = [before, after] as [Stored | undefined, Stored | undefined];
        if (collection === 'services') markService(id);
        else if (collection === 'tasks') onTaskChange(old as Task | undefined, now as Task | undefined);
        else if (collection === 'nodes') onNodeChange(old as Node | undefined, now as Node | undefined);
      }
    },
    onDrainProgress() {
      for (const id of view.draining()) markService(id);
    },
    whenDecided: () => (running ? new Promise((resolve) => waiting.push(resolve)) : Promise.resolve()),
    markAllServices() {
      for (const service of view.services()) markService(service.id);
      for (const id of view.servicesWithTasks()) markService(id);
      for (const id of view.servicesWithGenerations()) markService(id);
    },
    stop() {
      stopped = true;
      cancelTimer();
    },
  };
}
