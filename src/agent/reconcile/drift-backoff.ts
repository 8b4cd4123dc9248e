import type { Clock } from '../../base/clock.ts';
import { dependencies, providedNames } from '../../diff/dependencies.ts';
import type { Scope } from '../../kernel/kernel.ts';
import { keyOf, type Op } from '../../model/kernel-state.ts';
import type { Conditions } from '../conditions.ts';
import { createRepairLimiter } from './repair-limiter.ts';
import { addScope, scopeOfOps } from './scopes.ts';

/** While somebody fights, events about what is left alone are many: they are looked after together, so often, ms. */
const DEFER_INTERVAL = 250;

/** Leaves alone for a while what somebody else changes back again and again, and says so. */
export interface DriftBackoff {
  /** Those of the steps to be taken now; what depends on one that waits waits too. `isOurs`: no repair, our own retry. */
  allowed(ops: Op[], isOurs: (key: string) => boolean): Op[];
  /** Whether an event is put off; `again` is called with its scope then. */
  defers(scope: Scope): boolean;
  stop(): void;
}

export function createDriftBackoff({
  clock,
  conditions,
  again: recheck,
}: {
  clock: Clock;
  conditions: Conditions;
  again(scope: Scope): void;
}): DriftBackoff {
  const limiter = createRepairLimiter();
  const deferred: Scope[] = [];
  let nextAt = Number.POSITIVE_INFINITY;
  let deferUntil = 0;
  let cancel = () => {};

  /** One timer for all, however often their turn comes. */
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
      conditions.clear('fight');
      return;
    }
    const words = conflicts.slice(0, 3).map((key) => `\`${key}\``);
    const more = conflicts.length > 3 ? ` and ${conflicts.length - 3} more` : '';
    conditions.raise(
      'fight',
      `someone else keeps changing ${words.join(', ')}${more}: meshd repairs it ever more slowly; find the program that does it`,
    );
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
