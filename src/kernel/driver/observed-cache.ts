import { type KernelObject, keyOf, type ObjectKind, type Op } from '../../model/kernel-state.ts';
import { type Scope, scopeIncludes } from '../kernel.ts';

/**
 * What the kernel held when it was last looked at or changed by us. Events are compared with it, so that those about
 * our own doing, and about states that passed by, wake nobody. Never a base for changes. Objects of kinds without events
 * are left out.
 */
export interface ObservedCache {
  get(key: string): KernelObject | undefined;
  values(): Iterable<KernelObject>;
  /** A look at `scope` found this and nothing else. */
  recordObserved(scope: Scope, found: ReadonlyMap<string, KernelObject>): void;
  /** These were done. */
  recordApplied(ops: readonly Op[]): void;
}

/** Of these the kernel tells no events; all the others are few. */
const KINDS_WITHOUT_EVENTS: ReadonlySet<ObjectKind> = new Set([
  'virtual-service',
  'real-server',
  'set-member',
  'set-entry',
]);

/** Knows nothing until the first look. */
export function createObservedCache(): ObservedCache {
  const objects = new Map<string, KernelObject>();

  function removeWhere(gone: (object: KernelObject) => boolean): void {
    for (const [key, object] of objects) if (gone(object)) objects.delete(key);
  }

  function removeOnLink(netns: string, name: string): void {
    removeWhere((object) => object.netns === netns && 'dev' in object && object.dev === name);
  }

  return {
    get: (key) => objects.get(key),
    values: () => objects.values(),
    recordObserved(scope, found) {
      objects.forEach((object, key) => {
        if (!found.has(key) && scopeIncludes(scope, object)) objects.delete(key);
      });
      found.forEach((object, key) => {
        if (!KINDS_WITHOUT_EVENTS.has(object.kind)) objects.set(key, object);
      });
    },
    recordApplied(ops) {
      for (const { verb, object } of ops) {
        if (KINDS_WITHOUT_EVENTS.has(object.kind)) continue;
        if (verb !== 'delete') {
          objects.set(keyOf(object), object);
          continue;
        }
        objects.delete(keyOf(object));
        // What the kernel takes down with it; only where it sends events about that.
        if (object.kind === 'netns') removeWhere(({ netns }) => netns === object.netns);
        if (object.kind === 'veth') removeOnLink(object.peer.netns, object.peer.name);
        if (object.kind === 'veth' || object.kind === 'vxlan') removeOnLink(object.netns, object.name);
      }
    },
  };
}
