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
  const steps: Step[] = [];
  const order = serverOrder(have, want);
  for (const [pair, fate] of fates(have, want, order.misplaced)) push(steps, pair, fate, order.places);
  return steps.sort(compareSteps).map((step) => step.op);
}

function* fates(have: KernelState, want: KernelState, misplaced: ReadonlySet<string>): Generator<[Pair, Fate]> {
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

  // Parents rank below their children, so every fate is known before it is asked for.
  for (const pair of inRankOrder(have, want)) {
    const fate = decide(pair);
    const { before, after } = pair;
    if (before !== undefined && fate !== 'keep' && fate !== 'change' && isParent(before)) {
      const dying = fate === 'delete' || (fate === 'vanish' && !livesIn(before).some((name) => early.has(name)));
      for (const name of provides(before)) (dying ? late : early).add(name);
    }
    if (before === undefined && after !== undefined && isParent(after))
      for (const name of provides(after)) fresh.add(name);
    yield [pair, fate];
  }
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

function inRankOrder(have: KernelState, want: KernelState): Pair[] {
  const ranks: Pair[][] = [];
  const add = (object: KernelObject, pair: Pair) => {
    const rank = rankOf(object);
    ranks[rank] ??= [];
    ranks[rank].push(pair);
  };
  for (const [key, before] of have) add(before, { key, before, after: want.get(key) });
  for (const [key, after] of want) if (!have.has(key)) add(after, { key, before: undefined, after });
  return ranks.flat();
}

/** Clearing the way, building, taking weight off what leaves, and removing. */
const PHASE = { clear: 0, build: 1, ease: 2, remove: 3 } as const;

interface Step {
  phase: number;
  /** Ascending while building, descending while taking away. */
  rank: number;
  netns: string;
  key: string;
  /** Delete before create of the same thing. */
  turn: number;
  op: Op;
}

function push(steps: Step[], { key, before, after }: Pair, fate: Fate, places: ServerOrder['places']): void {
  const add = (phase: keyof typeof PHASE, op: Op, turn = 0) => {
    const { object } = op;
    const down = phase === 'clear' || phase === 'remove';
    const rank = down ? -rankOf(object) : rankOf(object);
    steps.push({ phase: PHASE[phase], rank, netns: object.netns, key: sortKey(key, object, places, down), turn, op });
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
      add('build', { verb: 'create', object: after! }, 1);
      break;
    case 'move':
      add('build', { verb: 'delete', object: before! });
      add('build', { verb: 'create', object: after! }, 1);
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
  const place = places.get(key);
  if (place === undefined || object.kind !== 'real-server') return key;
  return `real-server ${serviceKey(object)} ${String(place).padStart(6, '0')}`;
}

/** A real server that stops taking new connections does so only after others have begun to. */
function losesWeight(before: KernelObject, after: KernelObject): boolean {
  return before.kind === 'real-server' && after.kind === 'real-server' && before.weight > 0 && after.weight === 0;
}

function compareSteps(a: Step, b: Step): number {
  return (
    a.phase - b.phase ||
    a.rank - b.rank ||
    compareText(a.netns, b.netns) ||
    compareText(a.key, b.key) ||
    a.turn - b.turn
  );
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
