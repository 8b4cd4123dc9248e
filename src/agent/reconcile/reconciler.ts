import { backoff } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import { MeshError, messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { diff } from '../../diff/diff.ts';
import { type Actor, type ApplyReport, type Kernel, type Scope, scopeIncludes } from '../../kernel/kernel.ts';
import type { ChangeReason, ChangeRecord } from '../../model/change-record.ts';
import { describeDrift } from '../../model/drift.ts';
import { sameValue } from '../../model/equality.ts';
import { type KernelObject, keyOf, type Op } from '../../model/kernel-state.ts';
import { renderOp } from '../../model/render.ts';
import type { Conditions } from '../conditions.ts';
import { createChangeAttribution } from './change-attribution.ts';
import { createDriftBackoff } from './drift-backoff.ts';
import {
  addScope,
  coversAll,
  filterByScope,
  scopeOfOps,
  selectKeys,
  widenScope,
  withDependentKinds,
} from './scopes.ts';

/*
 * INVARIANTS
 * - One piece of kernel work at a time, the newest wish first: changes, then repairs, then looks.
 * - `have` changes only by what was observed or what apply reported done.
 * - Nothing is changed before `release`.
 * - A failed step is tried again with growing pauses, from a fresh look, until it is done or no longer wanted.
 */

export interface Reconciler {
  /** From here on differences are taken away, beginning with a look at everything. */
  start(): void;
  /** A whole new wish: looks at everything anew. */
  setDesired(want: ReadonlyMap<string, KernelObject>, revision: number): void;
  /** The wish for some objects: those only in `had` are wanted no more. No look is taken. */
  patchDesired(had: readonly KernelObject[], want: readonly KernelObject[], revision: number): void;
  /** Somebody else may have changed something here: `by`, as far as is known. */
  recheck(scope: Scope, by?: readonly Actor[]): void;
  /** As suspect, in the turn of a look: resolves when it was looked at and put right, with the ms that took. */
  audit(scope: Scope): Promise<number>;
  /** A look at the kernel, in its turn. */
  runExclusive<T>(work: () => Promise<T>): Promise<T>;
  want(): ReadonlyMap<string, KernelObject>;
  have(): ReadonlyMap<string, KernelObject>;
  /** Why an object is not as wanted, in words; by its key. */
  failures(): ReadonlyMap<string, string>;
  /** Steps taken because somebody else changed something. */
  repairs(): number;
  /** Resolves when the work under way is done; no more is begun. */
  stop(): Promise<void>;
}

export interface ReconcilerOptions {
  kernel: Kernel;
  clock: Clock;
  log: Log;
  conditions: Conditions;
  /** After each change: the newest revision the kernel now holds, and what it refused of it. */
  onApplied(revision: number, failures: string[]): void;
  /** A netns was made: whatever was in an earlier one of that name is not in this one. */
  onNetnsCreated(netns: string): void;
  /** The kernel was changed, with the steps. */
  onChanged(change: Omit<ChangeRecord, 'services'>, ops: readonly Op[]): void;
}

/** Why the kernel is changed, for the history. */
interface ChangeCause {
  why: ChangeReason;
  wrong: string[];
  by: string[];
}

/** Steps that one line of the log, or one entry of the history, spells out. */
const MAX_LISTED = 50;
const RETRY = { base: 100, limit: 30_000 };

export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { kernel, clock, log, conditions, onApplied } = options;
  const want = new Map<string, KernelObject>();
  let have = new Map<string, KernelObject>();
  const changedKeys = new Set<string>();
  const pendingScopes: Scope[] = [];
  const retryScopes: Scope[] = [];
  const pendingReads: (() => Promise<void>)[] = [];
  const failed = new Map<string, string>();
  const attribution = createChangeAttribution();
  const driftBackoff = createDriftBackoff({ clock, conditions, again: (scope) => queueScope(scope) });
  const timers = new Set<() => void>();
  let fullPassNeeded = false;
  let unreported = false;
  /** A pass broke off: what the kernel holds is unknown until the next look at everything. */
  let stateUnknown = false;
  let revision = 0;
  let paused = true;
  let reason: ChangeReason = 'start';
  let stopped = false;
  let repairs = 0;
  let retries = 0;
  let retryPending = false;
  let running: Promise<void> | undefined;

  const schedule = (delay: number, reconcileLoop: () => void) => {
    const cancel = clock.after(delay, () => {
      timers.delete(cancel);
      reconcileLoop();
    });
    timers.add(cancel);
  };

  const wake = () => {
    if (stopped || running !== undefined) return;
    // One turn later, so that what comes in one go is done in one go.
    running = Promise.resolve()
      .then(work)
      .finally(() => {
        running = undefined;
        if (hasWork()) wake();
      });
  };
  const hasWork = () =>
    !stopped &&
    (pendingReads.length > 0 ||
      (!paused &&
        (fullPassNeeded || (!stateUnknown && (unreported || changedKeys.size > 0 || pendingScopes.length > 0)))));

  async function work(): Promise<void> {
    while (hasWork()) {
      try {
        if (!paused && fullPassNeeded) await reconcileAll();
        else if (!paused && !stateUnknown && (changedKeys.size > 0 || unreported)) await reconcileChanged();
        else if (
          pendingReads.length > 0 &&
          (paused || stateUnknown || pendingScopes.length === 0 || pendingReads.length > 8)
        )
          await pendingReads.shift()!();
        else await reconcileScope(pendingScopes.shift()!);
      } catch (thrown) {
        onPassFailed(thrown);
      }
    }
  }

  function onPassFailed(thrown: unknown): void {
    log.error({ err: thrown }, `kernel work failed: ${messageOf(thrown)}`);
    conditions.raise('kernel', `the kernel cannot be read or changed: ${messageOf(thrown)}`);
    stateUnknown = true;
    scheduleRetry();
  }

  function scheduleRetry(scope: Scope = {}): void {
    addScope(retryScopes, scope);
    if (retryPending) return;
    retryPending = true;
    schedule(backoff(retries++, RETRY.base, RETRY.limit), () => {
      retryPending = false;
      for (const again of retryScopes.splice(0)) queueScope(again);
      if (stateUnknown) fullPassNeeded = true;
      wake();
    });
  }

  async function reconcileAll(): Promise<void> {
    fullPassNeeded = false;
    pendingScopes.length = 0;
    have = await kernel.observe();
    stateUnknown = false;
    changedKeys.clear();
    const target = new Map(want);
    const ops = diff(have, target);
    if (ops.length > 0) {
      const steps = ops.slice(0, MAX_LISTED).flatMap(renderOp);
      log.info(
        { revision, count: ops.length, steps },
        `the kernel differs from revision ${revision}: ${ops.length} steps`,
      );
    }
    await applyOps(ops, [...have.keys(), ...target.keys()], target, { why: reason, wrong: [], by: [] });
    reason = 'repair';
    reportApplied();
  }

  async function reconcileChanged(): Promise<void> {
    const keys = new Set(changedKeys);
    changedKeys.clear();
    const goal = selectKeys(want, keys);
    const cause: ChangeCause = { why: 'assignment', wrong: [], by: [] };
    if (keys.size > 0) await applyOps(diff(selectKeys(have, keys), goal), [...keys], goal, cause);
    reportApplied();
  }

  /** What is not as wanted in a part of the kernel is put right, and said. */
  async function reconcileScope(first: Scope): Promise<void> {
    let scope = first;
    let ops = await observeAndDiff(scope);
    for (let wider = widenScope(scope, ops, want); wider !== undefined; wider = widenScope(scope, ops, want)) {
      scope = wider;
      ops = await observeAndDiff(scope);
    }
    if (ops.some(({ object }) => changedKeys.has(keyOf(object)))) {
      // A wish that came during the look: carry it out first, and look again.
      addScope(pendingScopes, scope);
      return;
    }
    const due = driftBackoff.allowed(ops, (key) => failed.has(key));
    const repaired = due.filter(({ object }) => !failed.has(keyOf(object))); // the others are our own next try
    const by = attribution.attribute(scope, ops);
    const cause: ChangeCause = {
      why: repaired.length > 0 ? 'repair' : 'retry',
      wrong: describeDrift(repaired.slice(0, MAX_LISTED)),
      by,
    };
    if (ops.length === 0 && failed.size === 0) {
      updateRetries([]);
      return;
    }
    logRepairs(repaired, cause);
    const goal = filterByScope(want, scope);
    const left = new Set(ops.filter((op) => !due.includes(op)).map(({ object }) => keyOf(object)));
    const keys = [...filterByScope(have, scope).keys(), ...goal.keys()].filter((key) => !left.has(key));
    const before = [...failed.values()].join();
    await applyOps(due, keys, goal, cause);
    for (const key of failed.keys()) if (!want.has(key) && !have.has(key)) failed.delete(key);
    if ([...failed.values()].join() !== before) reportApplied();
  }

  function logRepairs(ops: readonly Op[], { wrong, by }: ChangeCause): void {
    if (ops.length === 0) return;
    repairs += ops.length;
    const steps = ops.slice(0, MAX_LISTED).flatMap(renderOp);
    const more = wrong.length > 1 ? ` (and ${wrong.length - 1} more)` : '';
    const author = by.length > 0 ? `what ${by.join(', ')} changed` : 'what somebody else changed';
    log.warn({ count: ops.length, wrong, by, steps }, `repairing ${author}: ${wrong[0]}${more}`);
  }

  /** Whether `have` is just what is wanted: what nearly every look finds, so it is told without a copy of anything. */
  function matchesDesired(scope: Scope): boolean {
    let same = true;
    want.forEach((object, key) => {
      if (same && scopeIncludes(scope, object)) same = sameValue(have.get(key), object);
    });
    have.forEach((object, key) => {
      if (same && scopeIncludes(scope, object)) same = want.has(key);
    });
    return same;
  }

  async function observeAndDiff(scope: Scope): Promise<Op[]> {
    const seen = await kernel.observe(scope);
    have.forEach((object, key) => {
      if (!seen.has(key) && scopeIncludes(scope, object)) have.delete(key);
    });
    // What is as it was stays the very object that `want` has: no second copy, and compared at once.
    seen.forEach((object, key) => {
      if (!sameValue(have.get(key), object)) have.set(key, object);
    });
    return matchesDesired(scope) ? [] : diff(filterByScope(have, scope), filterByScope(want, scope));
  }

  function recordChange(
    ops: readonly Op[],
    cause: ChangeCause,
    startedAt: number,
    failedOps: ApplyReport['failed'],
  ): void {
    const took = Math.round((clock.monotonic() - startedAt) * 10) / 10;
    const at = Math.round(clock.now() - took);
    const failures = failedOps.slice(0, MAX_LISTED).map(({ error }) => error.message);
    const steps = ops.slice(0, MAX_LISTED).flatMap(renderOp);
    options.onChanged({ at, took, revision, ...cause, steps, count: ops.length, failures }, ops);
  }

  /** Takes the steps; `have` is then `goal` among `keys`, but for what the kernel refused. */
  async function applyOps(
    ops: Op[],
    keys: readonly string[],
    goal: ReadonlyMap<string, KernelObject>,
    cause: ChangeCause,
  ): Promise<void> {
    for (const op of ops) log.debug({ steps: renderOp(op) }, 'kernel');
    const began = clock.monotonic();
    const failedOps: ApplyReport['failed'] = ops.length === 0 ? [] : (await kernel.apply(ops)).failed;
    if (ops.length > 0) recordChange(ops, cause, began, failedOps);
    const failedKeys = new Set(failedOps.map(({ op }) => keyOf(op.object)));
    for (const key of keys) {
      if (failedKeys.has(key)) continue;
      failed.delete(key);
      const object = goal.get(key);
      if (object !== undefined) have.set(key, object);
      else have.delete(key);
    }
    for (const { op, error } of failedOps) {
      failed.set(keyOf(op.object), error.message);
      log.error(error.message);
    }
    for (const { verb, object } of ops) {
      if (verb === 'create' && object.kind === 'netns' && !failedKeys.has(keyOf(object)))
        options.onNetnsCreated(object.netns);
    }
    updateRetries(failedOps.map(({ op }) => op));
  }

  function updateRetries(failedOps: readonly Op[]): void {
    if (failedOps.length > 0) scheduleRetry(scopeOfOps(failedOps));
    else if (failed.size === 0) retries = 0;
    const [first] = failed.values();
    if (first === undefined) {
      conditions.clear('kernel');
      return;
    }
    const more = failed.size > 1 ? ` (and ${failed.size - 1} more)` : '';
    conditions.raise('kernel', `the kernel refused: ${first}${more}`);
  }

  function reportApplied(): void {
    // Wishes that came during the apply are settled by the next pass, which tells.
    if (changedKeys.size > 0 || fullPassNeeded || stateUnknown) return;
    unreported = false;
    onApplied(revision, [...failed.values()]);
  }

  function queueScope(scope: Scope): void {
    if (coversAll(scope)) pendingScopes.length = 0;
    addScope(pendingScopes, scope);
    wake();
  }

  function runExclusive<T>(work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (stopped) {
        reject(new MeshError('unavailable', 'the agent is stopping'));
        return;
      }
      pendingReads.push(() => work().then(resolve, reject));
      wake();
    });
  }

  return {
    start() {
      if (!paused) return;
      paused = false;
      fullPassNeeded = true;
      wake();
    },
    setDesired(wanted, newest) {
      want.clear();
      for (const [key, object] of wanted) want.set(key, object);
      revision = newest;
      fullPassNeeded = true;
      if (reason !== 'start') reason = 'assignment';
      wake();
    },
    patchDesired(had, wanted, newest) {
      for (const object of had) {
        const key = keyOf(object);
        want.delete(key);
        changedKeys.add(key);
      }
      for (const object of wanted) {
        const key = keyOf(object);
        want.set(key, object);
        changedKeys.add(key);
      }
      revision = newest;
      unreported = true;
      wake();
    },
    recheck(scope, by = []) {
      attribution.record(scope, by);
      const withDependents = withDependentKinds(scope);
      if (!driftBackoff.defers(withDependents)) queueScope(withDependents);
    },
    async audit(scope) {
      let took = 0;
      const work = async () => {
        if (paused || stateUnknown) return;
        const begin = clock.monotonic();
        await reconcileScope(scope);
        took = clock.monotonic() - begin;
      };
      await runExclusive(work).catch(onPassFailed);
      return took;
    },
    runExclusive,
    want: () => want,
    have: () => have,
    failures: () => failed,
    repairs: () => repairs,
    async stop() {
      stopped = true;
      pendingReads.length = 0;
      driftBackoff.stop();
      for (const cancel of timers) cancel();
      timers.clear();
      await running;
    },
  };
}
