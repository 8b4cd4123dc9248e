import { isParent } from '../diff/dependencies.ts';
import { isIn, type Scope } from '../kernel/kernel.ts';
import type { KernelObject, ObjectKind, Op } from '../model/kernel-state.ts';

export function cutByScope(state: ReadonlyMap<string, KernelObject>, scope: Scope): Map<string, KernelObject> {
  const cut = new Map<string, KernelObject>();
  for (const [key, object] of state) if (isIn(scope, object)) cut.set(key, object);
  return cut;
}

export function cutByKeys(state: ReadonlyMap<string, KernelObject>, keys: ReadonlySet<string>) {
  const cut = new Map<string, KernelObject>();
  for (const key of keys) {
    const object = state.get(key);
    if (object !== undefined) cut.set(key, object);
  }
  return cut;
}

export function isEverything(scope: Scope): boolean {
  return scope.netns === undefined && scope.kinds === undefined;
}

/** Puts a scope into a list without naming the same twice. */
export function addScope(list: Scope[], scope: Scope): void {
  if (list.some((other) => covers(other, scope))) return;
  const sameKinds = list.find(
    (other) => other.netns !== undefined && scope.netns !== undefined && sameList(other.kinds, scope.kinds),
  );
  if (sameKinds === undefined) {
    list.push(scope);
    return;
  }
  const place = list.indexOf(sameKinds);
  list[place] = { ...sameKinds, netns: [...new Set([...sameKinds.netns!, ...scope.netns!])] };
}

/** Whether all of one scope is in another. */
export function covers(wide: Scope, narrow: Scope): boolean {
  return coversList(wide.netns, narrow.netns) && coversList(wide.kinds, narrow.kinds);
}

function coversList(wide: readonly string[] | undefined, narrow: readonly string[] | undefined): boolean {
  return wide === undefined || (narrow?.every((item) => wide.includes(item)) ?? false);
}

function sameList(a: readonly string[] | undefined, b: readonly string[] | undefined): boolean {
  return a === undefined || b === undefined ? a === b : a.length === b.length && a.every((item) => b.includes(item));
}

/** The namespaces that some steps are about, all kinds. */
export function scopeOfOps(ops: readonly Op[]): Scope {
  return { netns: [...new Set(ops.flatMap(({ object }) => netnsOf(object)))] };
}

function netnsOf(object: KernelObject): string[] {
  return object.kind === 'veth' ? [object.netns, object.peer.netns] : [object.netns];
}

const NETWORKING: readonly ObjectKind[] = [
  'netns',
  'veth',
  'vxlan',
  'address',
  'neighbour',
  'fdb',
  'route',
  'rule',
  'shortcut',
  'shortcut-task',
];

/**
 * What is to be looked at when the kernel tells of one thing: a link that goes takes its addresses, neighbours and
 * routes along, and whichever event comes first, the look has to see all of it.
 */
export function withRelatives(scope: Scope): Scope {
  if (scope.kinds === undefined || !scope.kinds.some((kind) => NETWORKING.includes(kind))) return scope;
  return { ...scope, kinds: [...new Set([...NETWORKING, ...scope.kinds])] };
}

/**
 * The scope to look at again because these steps make parents anew; undefined when the first look saw all of it. A
 * netns takes the links that end in it along, from whatever namespace they come.
 */
export function widened(scope: Scope, ops: readonly Op[], want: ReadonlyMap<string, KernelObject>): Scope | undefined {
  const rebuilt = ops.filter(({ verb, object }) => verb !== 'change' && isParent(object));
  if (rebuilt.length === 0) return undefined;
  const lost = new Set(rebuilt.filter(({ object }) => object.kind === 'netns').map(({ object }) => object.netns));
  const links =
    lost.size === 0 ? [] : [...want.values()].filter((object) => netnsOf(object).some((name) => lost.has(name)));
  const wide: Scope = {
    netns: [...new Set([...rebuilt.map(({ object }) => object), ...links].flatMap((object) => netnsOf(object)))],
  };
  if (covers(scope, wide)) return undefined;
  const netns = scope.netns === undefined ? wide.netns! : [...new Set([...scope.netns, ...wide.netns!])];
  return { netns };
}
