import { diff } from '../../diff/diff.ts';
import { type Kernel, type Scope, scopeIncludes } from '../../kernel/kernel.ts';
import { sameValue } from '../../model/equality.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { filterByScope } from './scopes.ts';

/** What the kernel holds of our objects, by key. Changes only by what was observed, or what `apply` reported as done. */
export interface ObservedState {
  have(): ReadonlyMap<string, KernelObject>;
  observeAll(): Promise<void>;
  /** Observes a part; resolves with the operations that it needs. */
  observeAndDiff(scope: Scope): Promise<Op[]>;
  /** Sets the objects of these keys to what they are in `goal`. */
  settle(keys: Iterable<string>, goal: ReadonlyMap<string, KernelObject>): void;
}

export function createObservedState(kernel: Kernel, want: ReadonlyMap<string, KernelObject>): ObservedState {
  let have = new Map<string, KernelObject>();

  /** What nearly every observation finds, so it is decided without copying anything. */
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

  return {
    have: () => have,
    async observeAll() {
      have = new Map(await kernel.observe());
    },
    async observeAndDiff(scope) {
      const seen = await kernel.observe(scope);
      have.forEach((object, key) => {
        if (!seen.has(key) && scopeIncludes(scope, object)) have.delete(key);
      });
      // An unchanged object stays the one that `want` holds too: no second copy, and compared by identity.
      seen.forEach((object, key) => {
        if (!sameValue(have.get(key), object)) have.set(key, object);
      });
      return matchesDesired(scope) ? [] : diff(filterByScope(have, scope), filterByScope(want, scope));
    },
    settle(keys, goal) {
      for (const key of keys) {
        const object = goal.get(key);
        if (object === undefined) have.delete(key);
        else have.set(key, object);
      }
    },
  };
}
