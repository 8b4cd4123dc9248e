import { type KernelObject, type KernelState, type Op, serviceKey } from '../model/kernel-state.ts';
import { RULE_PRIORITY } from '../model/names.ts';
import { transition } from './change.ts';
import { holdsOn, isParent, livesIn, provides } from './dependencies.ts';
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

type Fate =
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

interface Pair {
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
  const decide = judge(have, want, order.misplaced);
  // Parents rank below their children, so every fate is known before it is asked for.
  for (const pairs of byRank(have, want)) {
    for (const pair of pairs) push(steps, pair, decide(pair), order.places);
  }
  const { clear, build, ease, remove } = steps;
  return [...inOrder(clear).reverse(), ...inOrder(build), ...inOrder(ease), ...inOrder(remove).reverse()].flat();
}

/** Gives the fate of one object after the other, parents before their children. */
function judge(have: KernelState, want: KernelState, misplaced: ReadonlySet<string>): (pair: Pair) => Fate {
  // Asked for only when something leaves: a cold start never does.
  let names: Set<string> | undefined;
  const isClaimed = (name: string) => {
    names ??= claimedNames(have, want);
    return names.has(name);
  };
  // Names of things whose present bearer goes before anything is built, goes at the end, or is not there yet.
  const early = new Set<string>();
  const late = new Set<string>();
  const fresh = new Set<string>();

  const decide = ({ key, before, after }: Pair): Fate => {
    if (before === undefined) return 'create';
    const inside = livesIn(before);
    const lost = inside.some((name) => early.has(name) || fresh.has(name));
    if (after === undefined) {
      if (lost || inside.some((name) => late.has(name))) return 'vanish';
      if (before.kind === 'sysctl' || before.kind === 'ipvs-timeouts') return 'keep';
      if (before.kind === 'chain' && before.administrator && before.rules.length > 0) return 'keep';
      if (holdsOn(before).some((name) => early.has(name))) return 'clear';
      return isParent(before) && provides(before).some(isClaimed) ? 'clear' : 'delete';
    }
    if (lost) return 'recreate';
    if (holdsOn(before).some((name) => early.has(name))) return 'replace';
    // Seen with its far end in a netns that is not there: the name is gone, the pair may still be alive.
    if (before.kind === 'veth' && fresh.has(`netns ${before.peer.netns}`)) return 'replace';
    if (misplaced.has(key)) return 'move';
    const step = transition(before, after);
    return step === 'none' ? 'keep' : step;
  };

  return (pair) => {
    const fate = decide(pair);
    const { before, after } = pair;
    if (before !== undefined && fate !== 'keep' && fate !== 'change' && isParent(before)) {
      const dying = fate === 'delete' || (fate === 'vanish' && !livesIn(before).some((name) => early.has(name)));
      for (const name of provides(before)) (dying ? late : early).add(name);
    }
    if (before === undefined && after !== undefined && isParent(after))
      for (const name of provides(after)) fresh.add(name);
    return fate;
  };
}

/** Names that wanted objects will need for themselves when they are made. */
function claimedNames(have: KernelState, want: KernelState): Set<string> {
  const names = new Set<string>();
  for (const [key, after] of want) {
    if (!isParent(after)) continue;
    const before = have.get(key);
    if (before !== undefined && transition(before, after) !== 'replace') continue;
    for (const name of provides(after)) names.add(name);
  }
  return names;
}

function byRank(have: KernelState, want: KernelState): Pair[][] {
  const ranks: Pair[][] = [];
  const add = (object: KernelObject, pair: Pair) => {
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

function push(steps: Steps, { key, before, after }: Pair, fate: Fate, places: ServerOrder['places']): void {
  const add = (phase: Phase, op: Op) => {
    const { object } = op;
    const rank = rankOf(object);
    const down = phase === 'clear' || phase === 'remove';
    steps[phase][rank] ??= [];
    steps[phase][rank].push({ key: sortKey(key, object, places, down), op });
  };
  switch (fate) {
    case 'create':
    case 'recreate':
      add('build', { verb: 'create', object: after! });
      break;
    case 'change':
      add(losesWeight(before!, after!) ? 'ease' : 'build', { verb: 'change', object: after!, before: before! });
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
      add(fate === 'clear' ? 'clear' : 'remove', { verb: 'delete', object: before! });
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
function sortKey(key: string, object: KernelObject, places: ServerOrder['places'], down: boolean): string {
  if (object.kind === 'rule') {
    const place = down ? object.priority : RULE_PRIORITY.main - object.priority;
    return `rule ${object.netns} ${object.family} ${String(place).padStart(5, '0')} ${key}`;
  }
  if (object.kind !== 'real-server') return key;
  const place = places.get(key);
  if (place === undefined) return key;
  return `real-server ${serviceKey(object)} ${String(place).padStart(6, '0')}`;
}

/** A real server that stops taking new connections does so only after others have begun to. */
function losesWeight(before: KernelObject, after: KernelObject): boolean {
  return before.kind === 'real-server' && after.kind === 'real-server' && before.weight > 0 && after.weight === 0;
}

/** The steps of each rank that has any, in their order. */
function inOrder(ranks: Step[][]): Op[][] {
  return Object.values(ranks).map((steps) => steps.sort(compareSteps).map(({ op }) => op));
}

function compareSteps(a: Step, b: Step): number {
  return compareText(a.op.object.netns, b.op.object.netns) || compareText(a.key, b.key);
}

function compareText(a: string, b: string): number {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
