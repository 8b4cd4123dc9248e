import { isParent } from '../../diff/dependencies.ts';
import { type Scope, scopeIncludes } from '../../kernel/kernel.ts';
import { kindsRelatedTo } from '../../kernel/kinds/registry.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { KernelObject, ObjectKind } from '../../model/kinds/registry.ts';

export function filterByScope(state: ReadonlyMap<string, KernelObject>, scope: Scope): Map<string, KernelObject> {
  const cut = new Map<string, KernelObject>();
  for (const [key, object] of state) if (scopeIncludes(scope, object)) cut.set(key, object);
  return cut;
}

export function selectKeys(state: ReadonlyMap<string, KernelObject>, keys: ReadonlySet<string>) {
  const cut = new Map<string, KernelObject>();
  for (const key of keys) {
    const object = state.get(key);
    if (object !== undefined) cut.set(key, object);
  }
  return cut;
}

export function coversAll(scope: Scope): boolean {
  return scope.netns === undefined && scope.kinds === undefined;
}

/** Adds a scope to a list without covering the same twice. */
export function addScope(list: Scope[], scope: Scope): void {
  if (list.some((other) => covers(other, scope))) return;
  const sameKinds = list.find(
    (other) => other.netns !== undefined && scope.netns !== undefined && isSameList(other.kinds, scope.kinds),
  );
  if (sameKinds === undefined) {
    list.push(scope);
    return;
  }
  const place = list.indexOf(sameKinds);
  list[place] = { ...sameKinds, netns: [...new Set([...sameKinds.netns!, ...scope.netns!])] };
}

/** Whether one scope is completely inside another. */
export function covers(outer: Scope, inner: Scope): boolean {
  return coversList(outer.netns, inner.netns) && coversList(outer.kinds, inner.kinds);
}

function coversList(outer: readonly string[] | undefined, inner: readonly string[] | undefined): boolean {
  return outer === undefined || (inner?.every((item) => outer.includes(item)) ?? false);
}

function isSameList(a: readonly string[] | undefined, b: readonly string[] | undefined): boolean {
  return a === undefined || b === undefined ? a === b : a.length === b.length && a.every((item) => b.includes(item));
}

/** The namespaces that some operations touch, all kinds of objects. */
export function scopeOfOps(ops: readonly Op[]): Scope {
  return { netns: [...new Set(ops.flatMap(({ object }) => netnsOf(object)))] };
}

function netnsOf(object: KernelObject): string[] {
  return object.kind === 'veth' ? [object.netns, object.peer.netns] : [object.netns];
}

const NETWORKING: readonly ObjectKind[] = kindsRelatedTo('network');

/**
 * The scope to observe after an event: removing a link removes its addresses, neighbours and routes too, and whichever
 * event arrives first, all of them have to be observed.
 */
export function withDependentKinds(scope: Scope): Scope {
  if (scope.kinds === undefined || !scope.kinds.some((kind) => NETWORKING.includes(kind))) return scope;
  return { ...scope, kinds: [...new Set([...NETWORKING, ...scope.kinds])] };
}

/**
 * The scope to observe again because these operations recreate parents; undefined when the first observation covered it.
 * Deleting a netns deletes the links that end in it, in any namespace their other end is in.
 */
export function widenScope(
  scope: Scope,
  ops: readonly Op[],
  want: ReadonlyMap<string, KernelObject>,
): Scope | undefined {
  const rebuilt = ops.filter(({ verb, object }) => verb !== 'change' && isParent(object));
  if (rebuilt.length === 0) return undefined;
  const recreatedNetns = new Set(
    rebuilt.filter(({ object }) => object.kind === 'netns').map(({ object }) => object.netns),
  );
  const links =
    recreatedNetns.size === 0
      ? []
      : [...want.values()].filter((object) => netnsOf(object).some((name) => recreatedNetns.has(name)));
  const needed: Scope = {
    netns: [...new Set([...rebuilt.map(({ object }) => object), ...links].flatMap((object) => netnsOf(object)))],
  };
  if (covers(scope, needed)) return undefined;
  const netns = scope.netns === undefined ? needed.netns! : [...new Set([...scope.netns, ...needed.netns!])];
  return { netns };
}
