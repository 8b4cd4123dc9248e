import type { KernelState, Op } from '../model/kernel-state.ts';
import type { AnyObject, Kind, KindRegistry } from '../model/kinds/kind.ts';
import { KINDS } from '../model/kinds/registry.ts';
import { transition } from './change.ts';
import { type ServerOrder, serverOrder } from './server-order.ts';

/*
 * INVARIANTS
 * - Only objects of `have` and `want` are named.
 * - Every object comes after what it depends on and is removed before it; what dies with its parent is not deleted apart.
 * - Add before delete: a path that exists before and after exists between any two steps. Only what the kernel cannot
 *   change in place, and what occupies a needed name, is removed first.
 * - Real servers of a scheduler that hashes are created in their order; one in the wrong place is deleted and created
 *   again at once.
 * - Steps of one kind in one netns are neighbours, so that a driver can send them together.
 * - Permanent objects (sysctls, IPVS timeouts, an administrator's chain that holds rules) are never deleted.
 * What is particular to a kind is in its descriptor (src/model/kinds); the order of real servers is in server-order.ts.
 */

type Action =
  | 'keep'
  | 'create'
  | 'change'
  /** Deleted and created. */
  | 'replace'
  /** Deleted and created at once, which is the only way to its place. */
  | 'move'
  | 'delete'
  /** Deleted first of all: it occupies a name that something desired needs, or holds something that is replaced. */
  | 'clear'
  /** Dies with its parent. */
  | 'vanish'
  /** Dies with its parent and is created again. */
  | 'recreate';

interface ObjectPair {
  key: string;
  before: AnyObject | undefined;
  after: AnyObject | undefined;
  /** Of `before`, or of `after` where nothing exists; the two differ only where a name is used for another kind. */
  kind: Kind<AnyObject>;
}

type AnyState = ReadonlyMap<string, AnyObject>;

/**
 * The ordered steps from `have` to `want`. Both may be parts of a state, as long as they are parts by the same rule: what
 * is in neither is assumed to be as it should.
 */
export function diff(have: KernelState, want: KernelState): Op[];
export function diff(have: AnyState, want: AnyState, kinds: KindRegistry): Op<AnyObject>[];
export function diff(have: AnyState, want: AnyState, kinds: KindRegistry = KINDS): Op<AnyObject>[] {
  const steps: Steps = { clear: [], build: [], ease: [], remove: [] };
  const order = serverOrder(have as KernelState, want as KernelState);
  const actionFor = decideActions(have, want, order.misplaced, kinds);
  // Parents are in earlier stages than their children, so their action is known before it is asked for.
  for (const pairs of byStage(have, want, kinds)) {
    for (const pair of pairs) addSteps(steps, pair, actionFor(pair), order.positions, kinds);
  }
  const { clear, build, ease, remove } = steps;
  return [
    ...sortedOps(clear).reverse(),
    ...sortedOps(build),
    ...sortedOps(ease),
    ...sortedOps(remove).reverse(),
  ].flat();
}

/** Decides the action for one object after the other, parents before their children. */
function decideActions(
  have: AnyState,
  want: AnyState,
  misplaced: ReadonlySet<string>,
  kinds: KindRegistry,
): (pair: ObjectPair) => Action {
  // Computed only when something is removed, which a cold start never does.
  let names: Set<string> | undefined;
  const isClaimed = (name: string) => {
    names ??= requiredNames(have, want, kinds);
    return names.has(name);
  };
  // Names of things whose present bearer is removed before anything is built, at the end, or does not exist yet.
  const removedFirst = new Set<string>();
  const removedLast = new Set<string>();
  const createdNames = new Set<string>();

  const decide = ({ key, before, after, kind }: ObjectPair): Action => {
    if (before === undefined) return 'create';
    const parents = kind.inside(before);
    const parentRemoved = parents.some((name) => removedFirst.has(name) || createdNames.has(name));
    if (after === undefined) {
      if (parentRemoved || parents.some((name) => removedLast.has(name))) return 'vanish';
      if (kind.isPermanent(before)) return 'keep';
      if (kind.holds(before).some((name) => removedFirst.has(name))) return 'clear';
      return kind.isParent && kind.provides(before, key).some(isClaimed) ? 'clear' : 'delete';
    }
    if (parentRemoved) return 'recreate';
    if (kind.holds(before).some((name) => removedFirst.has(name))) return 'replace';
    if (kind.halves(before).some((name) => createdNames.has(name))) return 'replace';
    if (misplaced.has(key)) return 'move';
    const step = transition(before, after, kinds);
    return step === 'none' ? 'keep' : step;
  };

  return (pair) => {
    const action = decide(pair);
    const { key, before, after, kind } = pair;
    if (!kind.isParent) return action;
    if (before !== undefined && action !== 'keep' && action !== 'change') {
      const removedAtEnd =
        action === 'delete' || (action === 'vanish' && !kind.inside(before).some((name) => removedFirst.has(name)));
      for (const name of kind.provides(before, key)) (removedAtEnd ? removedLast : removedFirst).add(name);
    }
    if (before === undefined && after !== undefined)
      for (const name of kind.provides(after, key)) createdNames.add(name);
    return action;
  };
}

/** Names that desired objects will need for themselves when they are created. */
function requiredNames(have: AnyState, want: AnyState, kinds: KindRegistry): Set<string> {
  const names = new Set<string>();
  for (const [key, after] of want) {
    const kind = kinds[after.kind]!;
    if (!kind.isParent) continue;
    const before = have.get(key);
    if (before !== undefined && transition(before, after, kinds) !== 'replace') continue;
    for (const name of kind.provides(after, key)) names.add(name);
  }
  return names;
}

function byStage(have: AnyState, want: AnyState, kinds: KindRegistry): ObjectPair[][] {
  const stages: ObjectPair[][] = [];
  const add = (object: AnyObject, pair: ObjectPair) => {
    const rank = pair.kind.rank(object);
    stages[rank] ??= [];
    stages[rank].push(pair);
  };
  for (const [key, before] of have) add(before, { key, before, after: want.get(key), kind: kinds[before.kind]! });
  for (const [key, after] of want) {
    if (!have.has(key)) add(after, { key, before: undefined, after, kind: kinds[after.kind]! });
  }
  return Object.values(stages);
}

/** Removing what is in the way, building, reducing traffic to what is removed, and removing. */
type Phase = 'clear' | 'build' | 'ease' | 'remove';

/** Steps of each phase by rank: ascending while building, descending while removing. */
type Steps = Record<Phase, Step[][]>;

interface Step {
  key: string;
  op: Op<AnyObject>;
}

function addSteps(
  steps: Steps,
  { key, before, after, kind }: ObjectPair,
  action: Action,
  positions: ServerOrder['positions'],
  kinds: KindRegistry,
): void {
  const add = (phase: Phase, op: Op<AnyObject>) => {
    const { object } = op;
    const own = object.kind === kind.kind ? kind : kinds[object.kind]!;
    const rank = own.rank(object);
    const isRemoval = phase === 'clear' || phase === 'remove';
    steps[phase][rank] ??= [];
    steps[phase][rank].push({ key: positions.get(key) ?? own.sortKey(object, key, isRemoval), op });
  };
  switch (action) {
    case 'create':
    case 'recreate':
      add('build', { verb: 'create', object: after! });
      break;
    case 'change': {
      const reduces = kind.reducesTraffic(before!, after!);
      add(reduces ? 'ease' : 'build', { verb: 'change', object: after!, before: before! });
      break;
    }
    case 'replace':
      add('clear', { verb: 'delete', object: before! });
      add('build', { verb: 'create', object: after! });
      break;
    case 'move':
      // Of one key: what was added first stays first.
      add('build', { verb: 'delete', object: before! });
      add('build', { verb: 'create', object: after! });
      break;
    case 'clear':
    case 'delete':
      add(action === 'clear' ? 'clear' : 'remove', { verb: 'delete', object: before! });
      break;
    case 'keep':
    case 'vanish':
      break;
  }
}

/** The steps of each rank that has any, in their order. */
function sortedOps(ranks: Step[][]): Op<AnyObject>[][] {
  return Object.values(ranks).map((steps) => steps.sort(compareSteps).map(({ op }) => op));
}

function compareSteps(a: Step, b: Step): number {
  return compareText(a.op.object.netns, b.op.object.netns) || compareText(a.key, b.key);
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
