import { sameValue } from '../model/equality.ts';
import type { AnyObject, KindRegistry } from '../model/kinds/kind.ts';
import { KINDS } from '../model/kinds/registry.ts';

/** How to get from one state of an object to another of the same key. */
export function transition(
  before: AnyObject,
  after: AnyObject,
  kinds: KindRegistry = KINDS,
): 'none' | 'change' | 'replace' {
  if (sameValue(before, after)) return 'none';
  // A veth and a vxlan may have the same name, hence the same key.
  if (before.kind !== after.kind) return 'replace';
  const kind = kinds[before.kind]!;
  if (kind.isEquivalent(before, after)) return 'none';
  const isMutable = kind.fixedFields.every((path) => sameValue(fieldAt(before, path), fieldAt(after, path)));
  return isMutable ? 'change' : 'replace';
}

function fieldAt(object: AnyObject, path: readonly string[]): unknown {
  return path.reduce<unknown>((value, name) => (value as Record<string, unknown>)[name], object);
}
