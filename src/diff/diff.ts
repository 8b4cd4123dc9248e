import { type KernelObject, type KernelState, type Op, serviceKey } from '../model/kernel-state.ts';
import { RULE_PRIORITY } from '../model/names.ts';
import { transition } from './change.ts';
import { isParent, parentsOf, providedNames, referencesOf } from './dependencies.ts';
import { rankOf } from './order.ts';
import { type ServerOrder, serverOrder } from './server-order.ts';

/*
 * INVARIANTS
 * - Nothing outside `have` and `want` is ever named.
 * - Every object comes after what it depends on and leaves before it; what dies with its parent is not deleted apart.
 * - Add before delete: a way that exists before and after exists between any two steps. Only what the kernel cannot
 *   change in place, and what occupies a needed name, is taken away first.
 * - Real servers of a scheduler that hashes are made in their order; one that stands before its place is taken out and
 *   put back at once.
 * - Steps of one kind in one netns are neighbours, so that a driver can send them together.
 * - Sysctls and IPVS timeouts have no absence: they are never deleted. Nor is the administrator's chain while it holds
 *   rules.
 */

type Action =
  | 'keep'
  | 'create'
  | 'change'
  /** Taken away and made anew. */
  | 'replace'
  /** Taken out and put back at once: only so it comes to its place. */
  | 'move'
  | 'delete'
  /** Deleted first of all: it occupies a name that something wanted needs, or holds on to something replaced. */
  | 'clear'
  /** Dies with its parent. */
  | 'vanish'
  /** Dies with its parent and is made anew. */
  | 'recreate';

interface ObjectPair {
  key: string;
  before: KernelObject | undefined;
  after: KernelObject | undefined;
}

/**
 * The ordered steps from `have` to `want`. Both may be cut-outs, as long as they are cut along the same lines: what is
 * in neither is taken to be as it should.
 */
export function diff(have: KernelState, want: KernelState): Op[] {
  const steps: Steps = { clear: [], build: [], ease: [], remove: [] };
  const order = serverOrder(have, want);
  const actionFor = decideActions(have, want, order.misplaced);
  // Parents rank below their children, so every fate is known before it is asked for.
  for (const pairs of byRank(have, want)) {
    for (const pair of pairs) addSteps(steps, pair, actionFor(pair), order.positions);
  }
  const { clear, build, ease, remove } = steps;
  return [
    ...sortedOps(clear).reverse(),
    ...sortedOps(build),
    ...sortedOps(ease),
    ...sortedOps(remove).reverse(),
  ].flat();
}

/** Gives the fate of one object after the other, parents before their children. */
function decideActions(
  have: KernelState,
  want: KernelState,
  misplaced: ReadonlySet<string>,
): (pair: ObjectPair) => Action {
  // Asked for only when something leaves: a cold start never does.
  let names: Set<string> | undefined;
  const isClaimed = (name: string) => {
    names ??= requiredNames(have, want);
    return names.has(name);
  };
  // Names of things whose present bearer goes before anything is built, goes at the end, or is not there yet.
  const removedFirst = new Set<string>();
  const removedLast = new Set<string>();
  const createdNames = new Set<string>();

  const decide = ({ key, before, after }: ObjectPair): Action => {
    if (before === undefined) return 'create';
    const parents = parentsOf(before);
    const parentRemoved = parents.some((name) => removedFirst.has(name) || createdNames.has(name));
    if (after === undefined) {
      if (parentRemoved || parents.some((name) => removedLast.has(name))) return 'vanish';
      if (before.kind === 'sysctl' || before.kind === 'ipvs-timeouts') return 'keep';
      if (before.kind === 'chain' && before.administrator && before.rules.length > 0) return 'keep';
      if (referencesOf(before).some((name) => removedFirst.has(name))) return 'clear';
      return isParent(before) && providedNames(before).some(isClaimed) ? 'clear' : 'delete';
    }
    if (parentRemoved) return 'recreate';
    if (referencesOf(before).some((name) => removedFirst.has(name))) return 'replace';
    // Seen with its far end in a netns that is not there: the name is gone, the pair may still be alive.
    if (before.kind === 'veth' && createdNames.has(`netns ${before.peer.netns}`)) return 'replace';
    if (misplaced.has(key)) return 'move';
    const step = transition(before, after);
    return step === 'none' ? 'keep' : step;
  };

  return (pair) => {
    const action = decide(pair);
    const { before, after } = pair;
    if (before !== undefined && action !== 'keep' && action !== 'change' && isParent(before)) {
      const removedAtEnd =
        action === 'delete' || (action === 'vanish' && !parentsOf(before).some((name) => removedFirst.has(name)));
      for (const name of providedNames(before)) (removedAtEnd ? removedLast : removedFirst).add(name);
    }
    if (before === undefined && after !== undefined && isParent(after))
      for (const name of providedNames(after)) createdNames.add(name);
    return action;
  };
}

/** Names that wanted objects will need for themselves when they are made. */
function requiredNames(have: KernelState, want: KernelState): Set<string> {
  const names = new Set<string>();
  for (const [key, after] of want) {
    if (!isParent(after)) continue;
    const before = have.get(key);
    if (before !== undefined && transition(before, after) !== 'replace') continue;
    for (const name of providedNames(after)) names.add(name);
  }
  return names;
}

function byRank(have: KernelState, want: KernelState): ObjectPair[][] {
  const ranks: ObjectPair[][] = [];
  const add = (object: KernelObject, pair: ObjectPair) => {
    const rank = rankOf(object);
    ranks[rank] ??= [];
    ranks[rank].push(pair);
  };
  for (const [key, before] of have) add(before, { key, before, after: want.get(key) });
  for (const [key, after] of want) if (!have.has(key)) add(after, { key, before: undefined, after });
  return Object.values(ranks);
}

/** Clearing the way, building, taking weight off what leaves, and removing. */
type Phase = 'clear' | 'build' | 'ease' | 'remove';

/** Steps of each phase by rank: ascending while building, descending while taking away. */
type Steps = Record<Phase, Step[][]>;

interface Step {
  key: string;
  op: Op;
}

function addSteps(
  steps: Steps,
  { key, before, after }: ObjectPair,
  action: Action,
  positions: ServerOrder['positions'],
): void {
  const add = (phase: Phase, op: Op) => {
    const { object } = op;
    const rank = rankOf(object);
    const isRemoval = phase === 'clear' || phase === 'remove';
    steps[phase][rank] ??= [];
    steps[phase][rank].push({ key: sortKey(key, object, positions, isRemoval), op });
  };
  switch (action) {
    case 'create':
    case 'recreate':
      add('build', { verb: 'create', object: after! });
      break;
    case 'change':
      add(dropsToZeroWeight(before!, after!) ? 'ease' : 'build', { verb: 'change', object: after!, before: before! });
      break;
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

/**
 * Objects of one rank go by their keys, but for real servers whose order matters, and rules: what a `goto` leads to has
 * a higher priority number (fib_nl_newrule), so it is there before and after what leads to it.
 */
function sortKey(key: string, object: KernelObject, positions: ServerOrder['positions'], isRemoval: boolean): string {
  if (object.kind === 'rule') {
    const position = isRemoval ? object.priority : RULE_PRIORITY.main - object.priority;
    return `rule ${object.netns} ${object.family} ${String(position).padStart(5, '0')} ${key}`;
  }
  if (object.kind !== 'real-server') return key;
  const place = positions.get(key);
  if (place === undefined) return key;
  return `real-server ${serviceKey(object)} ${String(place).padStart(6, '0')}`;
}

/** A real server that stops taking new connections does so only after others have begun to. */
function dropsToZeroWeight(before: KernelObject, after: KernelObject): boolean {
  return before.kind === 'real-server' && after.kind === 'real-server' && before.weight > 0 && after.weight === 0;
}

/** The steps of each rank that has any, in their order. */
function sortedOps(ranks: Step[][]): Op[][] {
  return Object.values(ranks).map((steps) => steps.sort(compareSteps).map(({ op }) => op));
}

function compareSteps(a: Step, b: Step): number {
  return compareText(a.op.object.netns, b.op.object.netns) || compareText(a.key, b.key);
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
