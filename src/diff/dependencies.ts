import { descriptorOf, type KernelObject } from '../model/kernel-state.ts';
import { KINDS } from '../model/kinds/registry.ts';

/** The names of things an object is; what others depend on. */
export function providedNames(object: KernelObject): string[] {
  return descriptorOf(object, KINDS).provides(object);
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

export function parentsOf(object: KernelObject): string[] {
  return [...descriptorOf(object, KINDS).inside(object)];
}

export function referencesOf(object: KernelObject): string[] {
  return [...descriptorOf(object, KINDS).holds(object)];
}
