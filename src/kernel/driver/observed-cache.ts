import { keyOf, type Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { type Scope, scopeIncludes } from '../kernel.ts';
import { linksOf, linuxKind } from '../kinds/registry.ts';

/**
 * What the kernel held when it was last observed or changed by us. Events are compared with it, so that those about our
 * own changes, and about states that have passed, are not reported. Never a base for changes. Kinds without events are
 * left out: of some there are tens of thousands of objects.
 */
export interface ObservedCache {
  get(key: string): KernelObject | undefined;
  values(): Iterable<KernelObject>;
  /** An observation of `scope` found this and nothing else. */
  recordObserved(scope: Scope, found: ReadonlyMap<string, KernelObject>): void;
  /** These operations succeeded. */
  recordApplied(ops: readonly Op[]): void;
}

/** Empty until the first observation. */
export function createObservedCache(): ObservedCache {
  const objects = new Map<string, KernelObject>();

  function removeWhere(isRemoved: (object: KernelObject) => boolean): void {
    for (const [key, object] of objects) if (isRemoved(object)) objects.delete(key);
  }

  return {
    get: (key) => objects.get(key),
    values: () => objects.values(),
    recordObserved(scope, found) {
      objects.forEach((object, key) => {
        if (!found.has(key) && scopeIncludes(scope, object)) objects.delete(key);
      });
      found.forEach((object, key) => {
        if (isCached(object)) objects.set(key, object);
      });
    },
    recordApplied(ops) {
      for (const { verb, object } of ops) {
        if (!isCached(object)) continue;
        if (verb !== 'delete') {
          objects.set(keyOf(object), object);
          continue;
        }
        objects.delete(keyOf(object));
        // The kernel removes these with it, and its events about that would count as changes by others.
        if (object.kind === 'netns') removeWhere(({ netns }) => netns === object.netns);
        for (const end of linksOf(object)) {
          removeWhere((other) => other.netns === end.netns && 'dev' in other && other.dev === end.name);
        }
      }
    },
  };
}

function isCached(object: KernelObject): boolean {
  return linuxKind(object).events?.source === 'rtnetlink';
}
