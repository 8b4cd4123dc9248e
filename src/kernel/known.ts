import { type KernelObject, keyOf, type ObjectKind, type Op } from '../model/kernel-state.ts';
import { isIn, type Scope } from './kernel.ts';

/**
 * What the kernel held when it was last looked at or changed by us. Events are compared with it, so that those about
 * our own doing, and about states that passed by, wake nobody. Never a base for changes. Objects of kinds without events
 * are left out.
 */
export interface Known {
  get(key: string): KernelObject | undefined;
  values(): Iterable<KernelObject>;
  /** A look at `scope` found this and nothing else. */
  saw(scope: Scope, found: ReadonlyMap<string, KernelObject>): void;
  /** These were done. */
  did(ops: readonly Op[]): void;
}

/** Of these the kernel tells no events; all the others are few. */
const SILENT: ReadonlySet<ObjectKind> = new Set(['virtual-service', 'real-server', 'set-member', 'set-entry']);

/** Knows nothing until the first look. */
export function emptyKnown(): Known {
  const objects = new Map<string, KernelObject>();

  function forget(gone: (object: KernelObject) => boolean): void {
    for (const [key, object] of objects) if (gone(object)) objects.delete(key);
  }

  function forgetOnLink(netns: string, name: string): void {
    forget((object) => object.netns === netns && 'dev' in object && object.dev === name);
  }

  return {
    get: (key) => objects.get(key),
    values: () => objects.values(),
    saw(scope, found) {
      objects.forEach((object, key) => {
        if (!found.has(key) && isIn(scope, object)) objects.delete(key);
      });
      found.forEach((object, key) => {
        if (!SILENT.has(object.kind)) objects.set(key, object);
      });
    },
    did(ops) {
      for (const { verb, object } of ops) {
        if (SILENT.has(object.kind)) continue;
        if (verb !== 'delete') {
          objects.set(keyOf(object), object);
          continue;
        }
        objects.delete(keyOf(object));
        // What the kernel takes down with it; only where it sends events about that.
        if (object.kind === 'netns') forget(({ netns }) => netns === object.netns);
        if (object.kind === 'veth') forgetOnLink(object.peer.netns, object.peer.name);
        if (object.kind === 'veth' || object.kind === 'vxlan') forgetOnLink(object.netns, object.name);
      }
    },
  };
}
