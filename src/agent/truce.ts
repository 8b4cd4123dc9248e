import type { Clock } from '../base/clock.ts';
import { dependencies, provides } from '../diff/dependencies.ts';
import type { Scope } from '../kernel/kernel.ts';
import { keyOf, type Op } from '../model/kernel-state.ts';
import type { Conditions } from './conditions.ts';
import { createRepeats } from './repeats.ts';
import { addScope, scopeOfOps } from './scopes.ts';

/** While somebody fights, events about what is left alone are many: they are looked after together, so often, ms. */
const CALM = 250;

/** Leaves alone for a while what somebody else changes back again and again, and says so. */
export interface Truce {
  /** Those of the steps to be taken now; what depends on one that waits waits too. `isOurs`: no repair, our own retry. */
  due(ops: Op[], isOurs: (key: string) => boolean): Op[];
  /** Whether an event is put off; `again` is called with its scope then. */
  putsOff(scope: Scope): boolean;
  stop(): void;
}

export function createTruce({
  clock,
  conditions,
  again,
}: {
  clock: Clock;
  conditions: Conditions;
  again(scope: Scope): void;
}): Truce {
  const repeats = createRepeats();
  const waiting: Scope[] = [];
  let ends = Number.POSITIVE_INFINITY;
  let calmUntil = 0;
  let cancel = () => {};

  /** One timer for all, however often their turn comes. */
  function wait(scope: Scope, until: number, now: number): void {
    addScope(waiting, scope);
    if (until >= ends) return;
    cancel();
    ends = until;
    cancel = clock.after(until - now, () => {
      ends = Number.POSITIVE_INFINITY;
      for (const next of waiting.splice(0)) again(next);
    });
  }

  function tell(now: number): void {
    const fights = repeats.fights(now);
    if (fights.length === 0) {
      conditions.clear('fight');
      return;
    }
    const words = fights.slice(0, 3).map((key) => `\`${key}\``);
    const more = fights.length > 3 ? ` and ${fights.length - 3} more` : '';
    conditions.raise(
      'fight',
      `someone else keeps changing ${words.join(', ')}${more}: meshd repairs it ever more slowly; find the program that does it`,
    );
  }

  return {
    due(ops, isOurs) {
      const now = clock.monotonic();
      const missing = new Set<string>();
      const pauses = new Map<string, number>();
      for (const { object } of ops) {
        const key = keyOf(object);
        if (!pauses.has(key)) pauses.set(key, isOurs(key) ? 0 : repeats.repair(key, now));
      }
      const due = ops.filter(({ object }) => {
        const pause = pauses.get(keyOf(object)) ?? 0;
        if (pause === 0 && !dependencies(object).some((name) => missing.has(name))) return true;
        for (const name of provides(object)) missing.add(name);
        return false;
      });
      const pause = Math.max(0, ...pauses.values());
      if (pause > 0) wait(scopeOfOps(ops), now + pause, now);
      if (ops.length > 0 && due.length === 0) calmUntil = now + CALM;
      tell(now);
      return due;
    },
    putsOff(scope) {
      const now = clock.monotonic();
      if (now >= calmUntil) return false;
      wait(scope, calmUntil, now);
      return true;
    },
    stop: () => cancel(),
  };
}
