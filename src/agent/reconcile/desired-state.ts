import type { ChangeReason } from '../../model/change-record.ts';
import { keyOf } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';

/** What the kernel should hold, and what of it was not applied yet. */
export interface DesiredState {
  /** The objects by key: the same map for ever, changed in place. */
  readonly objects: ReadonlyMap<string, KernelObject>;
  /** Of the assignment that the objects follow from. */
  revision(): number;
  /** Replaces everything: only a full pass can apply that. */
  replace(objects: ReadonlyMap<string, KernelObject>, revision: number): void;
  /** Replaces single objects; those only in `had` are removed. */
  patch(had: readonly KernelObject[], want: readonly KernelObject[], revision: number): void;
  /** Whether there are changed objects, or a revision that has to be acknowledged although it may have changed nothing. */
  hasChanges(): boolean;
  hasChangedObjects(): boolean;
  isChanged(key: string): boolean;
  /** Keys of the objects changed since the last call. */
  takeChanges(): Set<string>;
  /** Why a full pass would change the kernel now. */
  fullPassReason(): ChangeReason;
  /** A full pass has applied everything: what the next one finds is drift. */
  markApplied(): void;
  /** The revision was acknowledged to the manager. */
  markAcknowledged(): void;
}

export function createDesiredState(): DesiredState {
  const objects = new Map<string, KernelObject>();
  let changed = new Set<string>();
  let revision = 0;
  let acknowledged = true;
  let reason: ChangeReason = 'start';

  return {
    objects,
    revision: () => revision,
    replace(desired, newest) {
      objects.clear();
      for (const [key, object] of desired) objects.set(key, object);
      revision = newest;
      if (reason !== 'start') reason = 'assignment';
    },
    patch(had, want, newest) {
      for (const object of had) {
        const key = keyOf(object);
        objects.delete(key);
        changed.add(key);
      }
      for (const object of want) {
        const key = keyOf(object);
        objects.set(key, object);
        changed.add(key);
      }
      revision = newest;
      acknowledged = false;
    },
    hasChanges: () => changed.size > 0 || !acknowledged,
    hasChangedObjects: () => changed.size > 0,
    isChanged: (key) => changed.has(key),
    takeChanges() {
      const taken = changed;
      changed = new Set();
      return taken;
    },
    fullPassReason: () => reason,
    markApplied() {
      reason = 'repair';
    },
    markAcknowledged() {
      acknowledged = true;
    },
  };
}
