import type { Clock } from '../../base/clock.ts';
import { MeshError, messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { diff } from '../../diff/diff.ts';
import type { Actor, ApplyReport, Kernel, Scope } from '../../kernel/kernel.ts';
import type { ChangeReason, ChangeRecord } from '../../model/change-record.ts';
import { condition } from '../../model/condition.ts';
import { type KernelObject, keyOf, type Op } from '../../model/kernel-state.ts';
import { renderOp } from '../../model/render.ts';
import type { Conditions } from '../conditions.ts';
import { createChangeAttribution } from './change-attribution.ts';
import { createDriftBackoff } from './drift-backoff.ts';
import { createFailedOperations, type FailedOperation } from './failed-operations.ts';
import { nextWork, type PendingWork } from './next-work.ts';
import { createObservedState } from './observed-state.ts';
import { type ChangeCause, changeRecord, logFullPass, logRepairs, repairCause } from './operation-log.ts';
import { createRetries } from './retries.ts';
import {
  addScope,
  coversAll,
  filterByScope,
  scopeOfOps,
  selectKeys,
  widenScope,
  withDependentKinds,
} from './scopes.ts';
import { createSerialWorker } from './serial-worker.ts';

/*
 * The only part of the agent that changes the kernel.
 *
 * INVARIANTS
 * - One piece of kernel work at a time, in the order of next-work.ts.
 * - Nothing is changed before `start`.
 * - A failed operation is retried with growing delays, after observing again, until it succeeds or is not desired any more.
 */

export interface Reconciler {
  /** Begins to change the kernel, with an observation of everything. */
  start(): void;
  /** Replaces the desired state; everything is observed again. */
  setDesired(want: ReadonlyMap<string, KernelObject>, revision: number): void;
  /** Changes the desired state of some objects: those only in `had` are removed. Nothing is observed. */
  patchDesired(had: readonly KernelObject[], want: readonly KernelObject[], revision: number): void;
  /** Others may have changed something in this scope: `by`, as far as known. */
  recheck(scope: Scope, by?: readonly Actor[]): void;
  /** Observes and repairs a scope when it is its turn; resolves with the ms that took. */
  audit(scope: Scope): Promise<number>;
  /** Runs a read of the kernel when it is its turn. Rejects with MeshError `unavailable` when the agent stops. */
  runExclusive<T>(work: () => Promise<T>): Promise<T>;
  want(): ReadonlyMap<string, KernelObject>;
  have(): ReadonlyMap<string, KernelObject>;
  /** Objects that are not as desired, by key. */
  failures(): ReadonlyMap<string, FailedOperation>;
  /** Operations so far that repaired changes of others. */
  repairs(): number;
  /** Resolves when the work under way is done; no more is begun. */
  stop(): Promise<void>;
}

export interface ReconcilerOptions {
  kernel: Kernel;
  clock: Clock;
  log: Log;
  conditions: Conditions;
  /** After each change: the newest revision that the kernel holds, and the operations of it that failed. */
  onApplied(revision: number, failures: string[]): void;
  /** A netns was created: processes in an earlier one of that name are not in this one. */
  onNetnsCreated(netns: string): void;
  onChanged(change: Omit<ChangeRecord, 'services'>, ops: readonly Op[]): void;
}

export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { kernel, clock, log, conditions, onApplied } = options;
  const want = new Map<string, KernelObject>();
  const observed = createObservedState(kernel, want);
  const failed = createFailedOperations(conditions);
  const attribution = createChangeAttribution();
  const driftBackoff = createDriftBackoff({ clock, conditions, recheck: queueScope });
  let phase: PendingWork['phase'] = 'paused';
  let fullPass = false;
  /** A revision has to be acknowledged although it may have changed nothing. */
  let unacknowledged = false;
  const changedKeys = new Set<string>();
  const pendingScopes: Scope[] = [];
  const pendingReads: (() => Promise<void>)[] = [];
  let revision = 0;
  let fullPassReason: ChangeReason = 'start';
  let repairs = 0;

  const worker = createSerialWorker(takeNext, onPassFailed);
  const retries = createRetries(clock, (scopes) => {
    if (phase === 'unknown') fullPass = true;
    scopes.forEach(queueScope);
    worker.wake();
  });

  function takeNext(): (() => Promise<void>) | undefined {
    const changes = changedKeys.size > 0 || unacknowledged;
    switch (nextWork({ phase, fullPass, changes, scopes: pendingScopes.length, reads: pendingReads.length })) {
      case 'full':
        return reconcileAll;
      case 'changes':
        return reconcileChanged;
      case 'read':
        return pendingReads.shift();
      case 'scope': {
        const scope = pendingScopes.shift()!;
        return () => reconcileScope(scope);
      }
      case undefined:
        return undefined;
    }
  }

  function onPassFailed(thrown: unknown): void {
    log.error({ err: thrown }, `kernel work failed: ${messageOf(thrown)}`);
    conditions.raise(condition('KernelUnavailable', { error: messageOf(thrown) }));
    if (phase === 'active') phase = 'unknown';
    retries.schedule({});
  }

  async function reconcileAll(): Promise<void> {
    fullPass = false;
    pendingScopes.length = 0;
    await observed.observeAll();
    if (phase === 'unknown') phase = 'active';
    changedKeys.clear();
    const goal = new Map(want);
    const ops = diff(observed.have(), goal);
    logFullPass(log, revision, ops);
    const cause: ChangeCause = { why: fullPassReason, wrong: [], by: [] };
    await applyOps(ops, [...observed.have().keys(), ...goal.keys()], goal, cause);
    fullPassReason = 'repair';
    acknowledge();
  }

  async function reconcileChanged(): Promise<void> {
    const keys = new Set(changedKeys);
    changedKeys.clear();
    const goal = selectKeys(want, keys);
    const cause: ChangeCause = { why: 'assignment', wrong: [], by: [] };
    if (keys.size > 0) await applyOps(diff(selectKeys(observed.have(), keys), goal), [...keys], goal, cause);
    acknowledge();
  }

  async function reconcileScope(first: Scope): Promise<void> {
    let scope = first;
    let ops = await observed.observeAndDiff(scope);
    for (let wider = widenScope(scope, ops, want); wider !== undefined; wider = widenScope(scope, ops, want)) {
      scope = wider;
      ops = await observed.observeAndDiff(scope);
    }
    if (ops.some(({ object }) => changedKeys.has(keyOf(object)))) {
      // The desired state changed during the observation: apply that first, then observe again.
      addScope(pendingScopes, scope);
      return;
    }
    const due = driftBackoff.allowed(ops, failed.has);
    const repaired = due.filter(({ object }) => !failed.has(keyOf(object))); // the others are retries of our own
    const cause = repairCause(repaired, attribution.attribute(scope, ops));
    repairs += repaired.length;
    logRepairs(log, repaired, cause);
    if (ops.length === 0 && failed.all().size === 0) {
      updateRetries([]);
      return;
    }
    const goal = filterByScope(want, scope);
    const postponed = new Set(ops.filter((op) => !due.includes(op)).map(({ object }) => keyOf(object)));
    const keys = [...filterByScope(observed.have(), scope).keys(), ...goal.keys()].filter((key) => !postponed.has(key));
    const before = failed.messages().join();
    await applyOps(due, keys, goal, cause);
    failed.retain((key) => want.has(key) || observed.have().has(key));
    if (failed.messages().join() !== before) acknowledge();
  }

  /** Executes the operations; the objects of `keys` are then as in `goal`, except those that the kernel rejected. */
  async function applyOps(
    ops: Op[],
    keys: readonly string[],
    goal: ReadonlyMap<string, KernelObject>,
    cause: ChangeCause,
  ): Promise<void> {
    for (const op of ops) log.debug({ steps: renderOp(op) }, 'kernel operation');
    const startedAt = clock.monotonic();
    const rejected: ApplyReport['failed'] = ops.length === 0 ? [] : (await kernel.apply(ops)).failed;
    if (ops.length > 0) options.onChanged(changeRecord(clock, startedAt, revision, cause, ops, rejected), ops);
    for (const { error } of rejected) log.error(error.message);
    const rejectedKeys = new Set(rejected.map(({ op }) => keyOf(op.object)));
    observed.settle(
      keys.filter((key) => !rejectedKeys.has(key)),
      goal,
    );
    failed.update(keys, rejected);
    for (const { verb, object } of ops) {
      if (verb === 'create' && object.kind === 'netns' && !rejectedKeys.has(keyOf(object)))
        options.onNetnsCreated(object.netns);
    }
    updateRetries(rejected.map(({ op }) => op));
  }

  function updateRetries(rejected: readonly Op[]): void {
    if (rejected.length > 0) retries.schedule(scopeOfOps(rejected));
    else if (failed.all().size === 0) {
      retries.reset();
      failed.update([], []); // the kernel answers again
    }
  }

  function acknowledge(): void {
    // Changes that arrived meanwhile are applied by the next pass, which acknowledges.
    if (changedKeys.size > 0 || fullPass || phase === 'unknown') return;
    unacknowledged = false;
    onApplied(revision, failed.messages());
  }

  function queueScope(scope: Scope): void {
    if (coversAll(scope)) pendingScopes.length = 0;
    addScope(pendingScopes, scope);
    worker.wake();
  }

  function runExclusive<T>(work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (phase === 'stopped') {
        reject(new MeshError('unavailable', 'the agent is stopping'));
        return;
      }
      pendingReads.push(async () => {
        try {
          resolve(await work());
        } catch (thrown) {
          reject(thrown);
        }
      });
      worker.wake();
    });
  }

  return {
    start() {
      if (phase !== 'paused') return;
      phase = 'active';
      fullPass = true;
      worker.wake();
    },
    setDesired(desired, newest) {
      want.clear();
      for (const [key, object] of desired) want.set(key, object);
      revision = newest;
      fullPass = true;
      if (fullPassReason !== 'start') fullPassReason = 'assignment';
      worker.wake();
    },
    patchDesired(had, desired, newest) {
      for (const object of had) {
        const key = keyOf(object);
        want.delete(key);
        changedKeys.add(key);
      }
      for (const object of desired) {
        const key = keyOf(object);
        want.set(key, object);
        changedKeys.add(key);
      }
      revision = newest;
      unacknowledged = true;
      worker.wake();
    },
    recheck(scope, by = []) {
      attribution.record(scope, by);
      const withDependents = withDependentKinds(scope);
      if (!driftBackoff.defers(withDependents)) queueScope(withDependents);
    },
    async audit(scope) {
      let took = 0;
      await runExclusive(async () => {
        if (phase !== 'active') return;
        const begin = clock.monotonic();
        await reconcileScope(scope);
        took = clock.monotonic() - begin;
      }).catch((thrown) => {
        if (phase !== 'stopped') onPassFailed(thrown);
      });
      return took;
    },
    runExclusive,
    want: () => want,
    have: observed.have,
    failures: failed.all,
    repairs: () => repairs,
    async stop() {
      phase = 'stopped';
      pendingReads.length = 0;
      driftBackoff.stop();
      retries.stop();
      await worker.idle();
    },
  };
}
