import type { Clock } from '../../base/clock.ts';
import { dependencies, providedNames } from '../../diff/dependencies.ts';
import type { Scope } from '../../kernel/kernel.ts';
import { condition } from '../../model/condition.ts';
import { keyOf, type Op } from '../../model/kernel-state.ts';
import type { Conditions } from '../conditions.ts';
import { createRepairLimiter } from './repair-limiter.ts';
import { addScope, scopeOfOps } from './scopes.ts';

/** During a conflict there are many events about objects that are not repaired now: they are handled together, ms. */
const DEFER_INTERVAL = 250;
/** Objects that the condition names. */
const MAX_NAMED = 3;

/** Pauses repairs of objects that another process modifies repeatedly, and raises `DriftConflict` for them. */
export interface DriftBackoff {
  /** The operations to execute now; those that depend on a paused one are paused too. `isOurs`: our own retry, no repair. */
  allowed(ops: Op[], isOurs: (key: string) => boolean): Op[];
  /** Whether an event is postponed; `recheck` is called with its scope later. */
  defers(scope: Scope): boolean;
  stop(): void;
}

export function createDriftBackoff({
  clock,
  conditions,
  recheck,
}: {
  clock: Clock;
  conditions: Conditions;
  /** Queues a scope that was postponed. */
  recheck(scope: Scope): void;
}): DriftBackoff {
  const limiter = createRepairLimiter();
  const deferred: Scope[] = [];
  let nextAt = Number.POSITIVE_INFINITY;
  let deferUntil = 0;
  let cancel = () => {};

  /** One timer for all postponed scopes. */
  function deferScope(scope: Scope, until: number, now: number): void {
    addScope(deferred, scope);
    if (until >= nextAt) return;
    cancel();
    nextAt = until;
    cancel = clock.after(until - now, () => {
      nextAt = Number.POSITIVE_INFINITY;
      for (const next of deferred.splice(0)) recheck(next);
    });
  }

  function updateCondition(now: number): void {
    const conflicts = limiter.conflicts(now);
    if (conflicts.length === 0) {
      conditions.clear('DriftConflict');
      return;
    }
    const objects = conflicts.slice(0, MAX_NAMED).map((key) => `\`${key}\``);
    conditions.raise(condition('DriftConflict', { objects: objects.join(', '), count: conflicts.length }));
  }

  return {
    allowed(ops, isOurs) {
      const now = clock.monotonic();
      const missing = new Set<string>();
      const pauses = new Map<string, number>();
      for (const { object } of ops) {
        const key = keyOf(object);
        if (!pauses.has(key)) pauses.set(key, isOurs(key) ? 0 : limiter.recordRepair(key, now));
      }
      const due = ops.filter(({ object }) => {
        const pause = pauses.get(keyOf(object)) ?? 0;
        if (pause === 0 && !dependencies(object).some((name) => missing.has(name))) return true;
        for (const name of providedNames(object)) missing.add(name);
        return false;
      });
      const pause = Math.max(0, ...pauses.values());
      if (pause > 0) deferScope(scopeOfOps(ops), now + pause, now);
      if (ops.length > 0 && due.length === 0) deferUntil = now + DEFER_INTERVAL;
      updateCondition(now);
      return due;
    },
    defers(scope) {
      const now = clock.monotonic();
      if (now >= deferUntil) return false;
      deferScope(scope, deferUntil, now);
      return true;
    },
    stop: () => cancel(),
  };
}
