import { backoff } from '../base/backoff.ts';
import type { Clock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { diff } from '../diff/diff.ts';
import { type Actor, type ApplyReport, isIn, type Kernel, type Scope } from '../kernel/kernel.ts';
import type { ChangeReason, ChangeRecord } from '../model/change-record.ts';
import { faultsOf } from '../model/differences.ts';
import { sameValue } from '../model/equality.ts';
import { type KernelObject, keyOf, type Op } from '../model/kernel-state.ts';
import { renderOp } from '../model/render.ts';
import { createBlame } from './blame.ts';
import type { Conditions } from './conditions.ts';
import { addScope, cutByKeys, cutByScope, isEverything, scopeOfOps, widened, withRelatives } from './scopes.ts';
import { createTruce } from './truce.ts';

/*
 * INVARIANTS
 * - One piece of kernel work at a time, the newest wish first: changes, then repairs, then looks.
 * - `have` changes only by what was observed or what apply reported done.
 * - Nothing is changed before `release`.
 * - A failed step is tried again with growing pauses, from a fresh look, until it is done or no longer wanted.
 */

export interface Reconciler {
  /** From here on differences are taken away, beginning with a look at everything. */
  release(): void;
  /** A whole new wish: looks at everything anew. */
  replace(want: ReadonlyMap<string, KernelObject>, revision: number): void;
  /** The wish for some objects: those only in `had` are wanted no more. No look is taken. */
  patch(had: readonly KernelObject[], want: readonly KernelObject[], revision: number): void;
  /** Somebody else may have changed something here: `by`, as far as is known. */
  suspect(scope: Scope, by?: readonly Actor[]): void;
  /** As suspect, in the turn of a look: resolves when it was looked at and put right, with the ms that took. */
  check(scope: Scope): Promise<number>;
  /** A look at the kernel, in its turn. */
  look<T>(work: () => Promise<T>): Promise<T>;
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
  onSettled(revision: number, failures: string[]): void;
  /** A netns was made: whatever was in an earlier one of that name is not in this one. */
  onNetnsMade(netns: string): void;
  /** The kernel was changed, with the steps. */
  onChanged(change: Omit<ChangeRecord, 'services'>, ops: readonly Op[]): void;
}

/** Why the kernel is changed, for the history. */
interface Cause {
  why: ChangeReason;
  wrong: string[];
  by: string[];
}

/** Steps that one line of the log, or one entry of the history, spells out. */
const SAID = 50;
const RETRY = { base: 100, limit: 30_000 };

export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { kernel, clock, log, conditions, onSettled } = options;
  const want = new Map<string, KernelObject>();
  let have = new Map<string, KernelObject>();
  const touched = new Set<string>();
  const suspects: Scope[] = [];
  const retryScopes: Scope[] = [];
  const looks: (() => Promise<void>)[] = [];
  const failed = new Map<string, string>();
  const blame = createBlame();
  const truce = createTruce({ clock, conditions, again: (scope) => suspect(scope) });
  const timers = new Set<() => void>();
  let everything = false;
  let unreported = false;
  /** A pass broke off: what the kernel holds is unknown until the next look at everything. */
  let lost = false;
  let revision = 0;
  let held = true;
  let reason: ChangeReason = 'start';
  let stopped = false;
  let repairs = 0;
  let retries = 0;
  let retryPending = false;
  let running: Promise<void> | undefined;

  const later = (delay: number, work: () => void) => {
    const cancel = clock.after(delay, () => {
      timers.delete(cancel);
      work();
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
    (looks.length > 0 || (!held && (everything || (!lost && (unreported || touched.size > 0 || suspects.length > 0)))));

  async function work(): Promise<void> {
    while (hasWork()) {
      try {
        if (!held && everything) await passOverEverything();
        else if (!held && !lost && (touched.size > 0 || unreported)) await passOverTouched();
        else if (looks.length > 0 && (held || lost || suspects.length === 0 || looks.length > 8))
          await looks.shift()!();
        else await passOverSuspect(suspects.shift()!);
      } catch (thrown) {
        breakOff(thrown);
      }
    }
  }

  function breakOff(thrown: unknown): void {
    log.error({ err: thrown }, `kernel work failed: ${messageOf(thrown)}`);
    conditions.raise('kernel', `the kernel cannot be read or changed: ${messageOf(thrown)}`);
    lost = true;
    retrySoon();
  }

  function retrySoon(scope: Scope = {}): void {
    addScope(retryScopes, scope);
    if (retryPending) return;
    retryPending = true;
    later(backoff(retries++, RETRY.base, RETRY.limit), () => {
      retryPending = false;
      for (const again of retryScopes.splice(0)) suspect(again);
      if (lost) everything = true;
      wake();
    });
  }

  async function passOverEverything(): Promise<void> {
    everything = false;
    suspects.length = 0;
    have = await kernel.observe();
    lost = false;
    touched.clear();
    const goal = new Map(want);
    const ops = diff(have, goal);
    if (ops.length > 0) {
      const steps = ops.slice(0, SAID).flatMap(renderOp);
      log.info(
        { revision, count: ops.length, steps },
        `the kernel differs from revision ${revision}: ${ops.length} steps`,
      );
    }
    await carryOut(ops, [...have.keys(), ...goal.keys()], goal, { why: reason, wrong: [], by: [] });
    reason = 'repair';
    report();
  }

  async function passOverTouched(): Promise<void> {
    const keys = new Set(touched);
    touched.clear();
    const goal = cutByKeys(want, keys);
    const cause: Cause = { why: 'assignment', wrong: [], by: [] };
    if (keys.size > 0) await carryOut(diff(cutByKeys(have, keys), goal), [...keys], goal, cause);
    report();
  }

  /** What is not as wanted in a part of the kernel is put right, and said. */
  async function passOverSuspect(first: Scope): Promise<void> {
    let scope = first;
    let ops = await compare(scope);
    for (let wider = widened(scope, ops, want); wider !== undefined; wider = widened(scope, ops, want)) {
      scope = wider;
      ops = await compare(scope);
    }
    if (ops.some(({ object }) => touched.has(keyOf(object)))) {
      // A wish that came during the look: carry it out first, and look again.
      addScope(suspects, scope);
      return;
    }
    const due = truce.due(ops, (key) => failed.has(key));
    const repaired = due.filter(({ object }) => !failed.has(keyOf(object))); // the others are our own next try
    const by = blame.take(scope, ops);
    const cause: Cause = {
      why: repaired.length > 0 ? 'repair' : 'retry',
      wrong: faultsOf(repaired.slice(0, SAID)),
      by,
    };
    if (ops.length === 0 && failed.size === 0) {
      settleRetries([]);
      return;
    }
    tellOfRepairs(repaired, cause);
    const goal = cutByScope(want, scope);
    const left = new Set(ops.filter((op) => !due.includes(op)).map(({ object }) => keyOf(object)));
    const keys = [...cutByScope(have, scope).keys(), ...goal.keys()].filter((key) => !left.has(key));
    const before = [...failed.values()].join();
    await carryOut(due, keys, goal, cause);
    for (const key of failed.keys()) if (!want.has(key) && !have.has(key)) failed.delete(key);
    if ([...failed.values()].join() !== before) report();
  }

  function tellOfRepairs(ops: readonly Op[], { wrong, by }: Cause): void {
    if (ops.length === 0) return;
    repairs += ops.length;
    const steps = ops.slice(0, SAID).flatMap(renderOp);
    const more = wrong.length > 1 ? ` (and ${wrong.length - 1} more)` : '';
    const whom = by.length > 0 ? `what ${by.join(', ')} changed` : 'what somebody else changed';
    log.warn({ count: ops.length, wrong, by, steps }, `repairing ${whom}: ${wrong[0]}${more}`);
  }

  /** Whether `have` is just what is wanted: what nearly every look finds, so it is told without a copy of anything. */
  function isAsWanted(scope: Scope): boolean {
    let same = true;
    want.forEach((object, key) => {
      if (same && isIn(scope, object)) same = sameValue(have.get(key), object);
    });
    have.forEach((object, key) => {
      if (same && isIn(scope, object)) same = want.has(key);
    });
    return same;
  }

  async function compare(scope: Scope): Promise<Op[]> {
    const seen = await kernel.observe(scope);
    have.forEach((object, key) => {
      if (!seen.has(key) && isIn(scope, object)) have.delete(key);
    });
    // What is as it was stays the very object that `want` has: no second copy, and compared at once.
    seen.forEach((object, key) => {
      if (!sameValue(have.get(key), object)) have.set(key, object);
    });
    return isAsWanted(scope) ? [] : diff(cutByScope(have, scope), cutByScope(want, scope));
  }

  function tellOfChange(ops: readonly Op[], cause: Cause, began: number, refused: ApplyReport['failed']): void {
    const took = Math.round((clock.monotonic() - began) * 10) / 10;
    const at = Math.round(clock.now() - took);
    const failures = refused.slice(0, SAID).map(({ error }) => error.message);
    const steps = ops.slice(0, SAID).flatMap(renderOp);
    options.onChanged({ at, took, revision, ...cause, steps, count: ops.length, failures }, ops);
  }

  /** Takes the steps; `have` is then `goal` among `keys`, but for what the kernel refused. */
  async function carryOut(
    ops: Op[],
    keys: readonly string[],
    goal: ReadonlyMap<string, KernelObject>,
    cause: Cause,
  ): Promise<void> {
    for (const op of ops) log.debug({ steps: renderOp(op) }, 'kernel');
    const began = clock.monotonic();
    const refused: ApplyReport['failed'] = ops.length === 0 ? [] : (await kernel.apply(ops)).failed;
    if (ops.length > 0) tellOfChange(ops, cause, began, refused);
    const refusedKeys = new Set(refused.map(({ op }) => keyOf(op.object)));
    for (const key of keys) {
      if (refusedKeys.has(key)) continue;
      failed.delete(key);
      const object = goal.get(key);
      if (object !== undefined) have.set(key, object);
      else have.delete(key);
    }
    for (const { op, error } of refused) {
      failed.set(keyOf(op.object), error.message);
      log.error(error.message);
    }
    for (const { verb, object } of ops) {
      if (verb === 'create' && object.kind === 'netns' && !refusedKeys.has(keyOf(object)))
        options.onNetnsMade(object.netns);
    }
    settleRetries(refused.map(({ op }) => op));
  }

  function settleRetries(refused: readonly Op[]): void {
    if (refused.length > 0) retrySoon(scopeOfOps(refused));
    else if (failed.size === 0) retries = 0;
    const [first] = failed.values();
    if (first === undefined) {
      conditions.clear('kernel');
      return;
    }
    const more = failed.size > 1 ? ` (and ${failed.size - 1} more)` : '';
    conditions.raise('kernel', `the kernel refused: ${first}${more}`);
  }

  function report(): void {
    // Wishes that came during the apply are settled by the next pass, which tells.
    if (touched.size > 0 || everything || lost) return;
    unreported = false;
    onSettled(revision, [...failed.values()]);
  }

  function suspect(scope: Scope): void {
    if (isEverything(scope)) suspects.length = 0;
    addScope(suspects, scope);
    wake();
  }

  function look<T>(work: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      if (stopped) {
        reject(new MeshError('unavailable', 'the agent is stopping'));
        return;
      }
      looks.push(() => work().then(resolve, reject));
      wake();
    });
  }

  return {
    release() {
      if (!held) return;
      held = false;
      everything = true;
      wake();
    },
    replace(wanted, newest) {
      want.clear();
      for (const [key, object] of wanted) want.set(key, object);
      revision = newest;
      everything = true;
      if (reason !== 'start') reason = 'assignment';
      wake();
    },
    patch(had, wanted, newest) {
      for (const object of had) {
        const key = keyOf(object);
        want.delete(key);
        touched.add(key);
      }
      for (const object of wanted) {
        const key = keyOf(object);
        want.set(key, object);
        touched.add(key);
      }
      revision = newest;
      unreported = true;
      wake();
    },
    suspect(scope, by = []) {
      blame.heard(scope, by);
      const wide = withRelatives(scope);
      if (!truce.putsOff(wide)) suspect(wide);
    },
    async check(scope) {
      let took = 0;
      const work = async () => {
        if (held || lost) return;
        const begin = clock.monotonic();
        await passOverSuspect(scope);
        took = clock.monotonic() - begin;
      };
      await look(work).catch(breakOff);
      return took;
    },
    look,
    want: () => want,
    have: () => have,
    failures: () => failed,
    repairs: () => repairs,
    async stop() {
      stopped = true;
      looks.length = 0;
      truce.stop();
      for (const cancel of timers) cancel();
      timers.clear();
      await running;
    },
  };
}
