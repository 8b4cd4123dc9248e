import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { diff } from '../diff/diff.ts';
import type { Family } from '../model/address.ts';
import type { Assignment } from '../model/assignment.ts';
import { applyAssignmentDelta, assignmentDelta } from '../model/assignment-delta.ts';
import { NODE_NUMBER_LIMIT } from '../model/identifiers.ts';
import { type KernelState, keyOf, type Op, stateOf } from '../model/kernel-state.ts';
import { keyedAssignment } from '../model/keyed-assignment.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import type { Rule } from '../model/kinds/rule.ts';
import { networkNetns, RULE_PRIORITY, returnTable } from '../model/linux-names.ts';
import { renderObject } from '../model/render.ts';
import { anyFamilies, CAPABILITIES, emptyAssignment, peer } from './assignments.test-data.ts';
import { plan, planDelta } from './plan.ts';

const NETNS = networkNetns('ingress');
const MAIN = 254;

/** The rules of one family in the kernel's order: by priority, the older first. */
function rulesOf(objects: Iterable<KernelObject>, family: Family): Rule[] {
  return [...objects]
    .filter((object): object is Rule => object.kind === 'rule' && object.family === family)
    .sort((a, b) => a.priority - b.priority);
}

/**
 * fib_rules_lookup() over the rules of a netns: its own rule for `local` first, and main's last. A goto without a target
 * is skipped, and so is a table without a default route.
 */
function walk(
  all: readonly Pick<Rule, 'fwmark' | 'fwmask' | 'action'>[],
  targets: ReadonlyMap<number, number>,
  mark: number,
  has: (table: number) => boolean,
) {
  let compared = 1;
  for (let at = 0; at < all.length; at += 1) {
    const { fwmark, fwmask, action } = all[at]!;
    compared += 1;
    if (((mark ^ fwmark) & fwmask) !== 0 || action === 'nop') continue;
    if ('lookup' in action) {
      if (has(action.lookup)) return { table: action.lookup, compared };
      continue;
    }
    const target = targets.get(action.goto);
    if (target !== undefined) at = target - 1;
  }
  throw new Error('the walk ended before main');
}

function lookups(state: KernelState, family: Family) {
  const rules = rulesOf(state.values(), family);
  const tables = new Set([MAIN]);
  const everywhere = family === 'inet' ? '0.0.0.0/0' : '::/0';
  for (const object of state.values()) {
    if (object.kind === 'route' && object.netns === NETNS && object.destination === everywhere) {
      tables.add(object.table);
    }
  }
  const main = { priority: RULE_PRIORITY.main, fwmark: 0, fwmask: 0, action: { lookup: MAIN } };
  const all = [...rules, main];
  const targets = new Map<number, number>();
  all.forEach(({ priority }, at) => {
    if (!targets.has(priority)) targets.set(priority, at);
  });
  return (mark: number) => walk(all, targets, mark, (table) => tables.has(table));
}

function withPeers(numbers: readonly number[], families: readonly Family[], self = 1): Assignment {
  const peers = numbers.filter((number) => number !== self).map((number) => peer(number, families));
  return { ...emptyAssignment(self, families), peers };
}

const anyNumber = fc.oneof(
  fc.integer({ min: 2, max: NODE_NUMBER_LIMIT }),
  fc.integer({ min: 2, max: 70 }),
  // Neighbours within blocks and spans.
  fc.integer({ min: 1_000, max: 1_100 }),
);
const anyNumbers = (maxLength: number) => fc.uniqueArray(anyNumber, { maxLength, size: 'max' });

/** The number of comparisons for a set of peers, and whether the rules select the right tables. */
function expectCorrectLookups(
  numbers: readonly number[],
  families: readonly Family[],
  strangers: readonly number[],
): void {
  const state = plan(withPeers(numbers, families), CAPABILITIES);
  const known = new Set(numbers);
  for (const family of families) {
    const lookup = lookups(state, family);
    // One peer of each block would represent the others; every peer is checked nevertheless.
    for (const number of numbers) {
      const { table, compared } = lookup(number);
      if (table !== returnTable(number) || compared > 200) expect([number, table, compared]).toEqual([]);
    }
    for (const mark of strangers) {
      if (known.has(mark)) continue;
      const { table, compared } = lookup(mark);
      if (table !== MAIN || compared > 200) expect([mark, table, compared]).toEqual([]);
    }
    expect(lookup(0)).toEqual({ table: MAIN, compared: 3 });
  }
}

describe('return rules', () => {
  it('of up to 64 nodes are a flat list', () => {
    const words = rulesOf(plan(withPeers([2, 3, 63], ['inet']), CAPABILITIES).values(), 'inet').flatMap(renderObject);
    expect(words).toEqual([
      'ip -n mesh-net-ingress rule add priority 10000 fwmark 0x0/0xffffffff goto 32766',
      'ip -n mesh-net-ingress rule add priority 10002 fwmark 0x2 lookup 100002',
      'ip -n mesh-net-ingress rule add priority 10003 fwmark 0x3 lookup 100003',
      'ip -n mesh-net-ingress rule add priority 10063 fwmark 0x3f lookup 100063',
    ]);
  });

  it('of more nodes are grouped', () => {
    const words = rulesOf(plan(withPeers([7, 1067], ['inet6']), CAPABILITIES).values(), 'inet6').flatMap(renderObject);
    expect(words).toEqual([
      'ip -6 -n mesh-net-ingress rule add priority 10000 fwmark 0x0/0xffffffff goto 32766',
      'ip -6 -n mesh-net-ingress rule add priority 10007 fwmark 0x7 lookup 100007',
      'ip -6 -n mesh-net-ingress rule add priority 30100 fwmark 0x400/0xfffffc00 goto 30208',
      'ip -6 -n mesh-net-ingress rule add priority 30101 fwmark 0x0/0x0 goto 32766',
      'ip -6 -n mesh-net-ingress rule add priority 30208 fwmark 0x420/0xffffffe0 goto 31066',
      'ip -6 -n mesh-net-ingress rule add priority 30209 fwmark 0x400/0xfffffc00 goto 32766',
      'ip -6 -n mesh-net-ingress rule add priority 31066 fwmark 0x42b lookup 101067',
      'ip -6 -n mesh-net-ingress rule add priority 31067 fwmark 0x420/0xffffffe0 goto 32766',
    ]);
  });

  it('need at most 200 comparisons with 4096 nodes, for any mark', { timeout: 60_000 }, () => {
    const strangers = [...Array.from({ length: 4_300 }, (_, mark) => mark), 19_999, 32_768, 0x7fff_ffff, 0xffff_ffff];
    expectCorrectLookups(
      Array.from({ length: 4_095 }, (_, index) => index + 2),
      ['inet', 'inet6'],
      strangers.slice(1),
    );
  });

  it('need no more comparisons if the 4096 nodes have any numbers', { timeout: 60_000 }, () => {
    for (const step of [4, 3]) {
      const numbers = Array.from({ length: 4_095 }, (_, index) => NODE_NUMBER_LIMIT - index * step);
      expectCorrectLookups(
        numbers,
        ['inet'],
        numbers.map((number) => number - 1),
      );
    }
  });

  it('select the right table for any set of peers, and main for any other mark', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(anyNumbers(300), fc.array(fc.nat(0xffff_ffff)), anyFamilies, (numbers, marks, families) => {
        expectCorrectLookups(
          numbers,
          families,
          [...marks, ...numbers.map((number) => number + 1), ...numbers.map((number) => number ^ 0x20)].filter(
            (mark) => mark !== 0,
          ),
        );
      }),
      { numRuns: 100 },
    );
  });

  it('stay within our range of priorities, each with its own priority', () => {
    const numbers = Array.from({ length: NODE_NUMBER_LIMIT - 1 }, (_, index) => index + 2);
    const rules = rulesOf(plan(withPeers(numbers, ['inet']), CAPABILITIES).values(), 'inet');
    const wrong = rules.filter(
      ({ priority, action }) =>
        priority < RULE_PRIORITY.first ||
        priority > RULE_PRIORITY.last ||
        // The kernel refuses a goto backwards.
        (action !== 'nop' && 'goto' in action && action.goto <= priority),
    );
    expect(wrong).toEqual([]);
    const leaves = rules.filter(({ action }) => action !== 'nop' && 'lookup' in action);
    expect(leaves).toHaveLength(numbers.length);
  });
});

/** Executes the steps one by one, and checks the return route to each of these nodes before the first and after each. */
function expectNoGap(have: KernelState, ops: readonly Op[], families: readonly Family[], numbers: readonly number[]) {
  const state = new Map(have);
  const look = (after: string) => {
    for (const family of families) {
      const lookup = lookups(state, family);
      for (const number of numbers) {
        const { table } = lookup(number);
        if (table !== returnTable(number)) expect([after, number, table]).toEqual([]);
      }
    }
  };
  look('before');
  for (const { verb, object } of ops) {
    if (verb === 'delete') state.delete(keyOf(object));
    else state.set(keyOf(object), object);
    if (object.kind === 'rule' || object.kind === 'route') look(`${verb} ${keyOf(object)}`);
  }
  return state;
}

describe('adding and removing peers', () => {
  it('keeps the return route of every other peer between any two steps', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(anyNumbers(40), anyNumbers(40), anyFamilies, (some, others, families) => {
        const kept = some.filter((_, index) => index % 2 === 0);
        const before = withPeers(some, families);
        const after = withPeers([...new Set([...kept, ...others])], families);
        const delta = assignmentDelta(before, { ...after, revision: 2 })!;
        const { have, want } = planDelta(keyedAssignment(before), delta, CAPABILITIES);
        const whole = plan(before, CAPABILITIES);
        const ops = diff(stateOf(have), stateOf(want));
        const state = expectNoGap(whole, ops, families, kept);
        expect([...state.keys()].sort()).toEqual([...plan(after, CAPABILITIES).keys()].sort());
      }),
      { numRuns: 60 },
    );
  });

  it('needs as many steps in a large cluster as in a small one', { timeout: 60_000 }, () => {
    const families = ['inet', 'inet6'] as const;
    const all = Array.from({ length: 2_000 }, (_, index) => index + 2);
    for (const number of [1_500, 2_001, 65]) {
      const before = withPeers(all, families);
      const delta = { ...assignmentDelta(before, before)!, revision: 2, removedPeers: [`node${number}`] };
      const gone = planDelta(keyedAssignment(before), delta, CAPABILITIES);
      const steps = diff(stateOf(gone.have), stateOf(gone.want));
      // Two FDB entries and peer set; two neighbours, three routes and a rule a family.
      expect(steps).toHaveLength(3 + 6 * families.length);
      const without = applyAssignmentDelta(before, delta);
      if (!without.ok) throw without.error;
      const back = planDelta(
        keyedAssignment(without.value),
        { ...delta, base: 2, revision: 3, removedPeers: [], peers: [peer(number, families)] },
        CAPABILITIES,
      );
      expect(diff(stateOf(back.have), stateOf(back.want))).toHaveLength(3 + 6 * families.length);
    }
  });

  it('removes a group with its last peer', () => {
    const before = withPeers([1_500, 1_501, 3_000], ['inet']);
    const steps = (removed: number[], from: Assignment) => {
      const delta = { ...assignmentDelta(from, from)!, removedPeers: removed.map((number) => `node${number}`) };
      const { have, want } = planDelta(keyedAssignment(from), delta, CAPABILITIES);
      return diff(stateOf(have), stateOf(want)).flatMap(({ verb, object }) =>
        object.kind === 'rule' ? [`${verb} ${object.priority}`] : [],
      );
    };
    expect(steps([1_500], before)).toEqual(['delete 31092']);
    expect(steps([1_500, 1_501], before)).toEqual([
      'delete 30100',
      'delete 30208',
      'delete 30209',
      'delete 31092',
      'delete 31092',
      'delete 31093',
    ]);
  });

  it('migrates from the one list of earlier versions without a gap', { timeout: 60_000 }, () => {
    fc.assert(
      fc.property(anyNumbers(60), anyFamilies, (numbers, families) => {
        const want = plan(withPeers(numbers, families), CAPABILITIES);
        const old = stateOf([
          ...[...want.values()].filter(({ kind }) => kind !== 'rule'),
          ...families.flatMap((family) =>
            numbers.map((number): Rule => {
              const action = { lookup: returnTable(number) };
              const priority = RULE_PRIORITY.base + number;
              return { kind: 'rule', netns: NETNS, family, priority, fwmark: number, fwmask: 0xffffffff, action };
            }),
          ),
        ]);
        const ops = diff(old, want);
        const state = expectNoGap(old, ops, families, numbers);
        expect([...state.keys()].sort()).toEqual([...want.keys()].sort());
      }),
      { numRuns: 40 },
    );
  });
});
