import { descriptorOf } from '../model/kernel-state.ts';
import { type KernelObject, KINDS } from '../model/kinds/registry.ts';

/** The names of things an object is; what others depend on. */
export function providedNames(object: KernelObject): readonly string[] {
  const kind = descriptorOf(object, KINDS);
  return kind.provides(object, kind.key(object));
}

/**
 * Whether other objects can live in this one or need it: where it was missing, they may be missing too. The many small
 * ones at the end of the order cost no names.
 */
export function isParent(object: KernelObject): boolean {
  return descriptorOf(object, KINDS).isParent;
}

/** Names of everything an object needs; what other objects provide has these names. */
export function dependencies(object: KernelObject): string[] {
  const kind = descriptorOf(object, KINDS);
  return [...kind.inside(object), ...kind.holds(object), ...kind.after(object)];
}
