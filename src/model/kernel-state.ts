import type { AnyObject, KindRegistry } from './kinds/kind.ts';
import { type KernelObject, KINDS } from './kinds/registry.ts';

/*
 * The kernel as data. What is desired (planned) and what is observed are both a KernelState, so they can be compared,
 * printed by one renderer and replayed. `netns` is a name of linux-names.ts; `host` is the netns meshd runs in.
 */

/** Objects by key. Two objects with one key are two states of the same thing. */
export type KernelState = ReadonlyMap<string, KernelObject>;

/** The identity of an object; a difference in other fields is changed in place or by replacement. */
export function keyOf(object: KernelObject): string {
  return descriptorOf(object, KINDS).key(object);
}

/** A state from objects; a later object with the same key replaces an earlier one. */
export function stateOf(objects: Iterable<KernelObject>): Map<string, KernelObject> {
  const state = new Map<string, KernelObject>();
  for (const object of objects) state.set(keyOf(object), object);
  return state;
}

/** The descriptor of an object's kind. */
export function descriptorOf(object: AnyObject, kinds: KindRegistry) {
  return kinds[object.kind]!;
}

/** One step towards the desired state; what the kernel cannot change in place becomes a delete and a create. */
export type Op<T extends AnyObject = KernelObject> =
  | { verb: 'create'; object: T }
  | { verb: 'change'; object: T; before: T }
  | { verb: 'delete'; object: T };
