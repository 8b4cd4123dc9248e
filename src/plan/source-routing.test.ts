import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { Cidr, IpAddress } from '../model/address.ts';
import { isWithin } from '../model/block.ts';
import { stateOf } from '../model/kernel-state.ts';
import { ruleText } from '../model/kinds/firewall-rule.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { isKernelRule, type PolicyRule, type RuleSelectors } from '../model/policy-rule.ts';
import { renderObject } from '../model/render.ts';
import { CAPABILITIES, emptyAssignment } from './assignments.test-data.ts';
import type { NodeCapabilities } from './context.ts';
import { plan, planHostRouting, unfollowedHostRules } from './plan.ts';

const LB = '10.252.1.2';

function rule(fields: Partial<PolicyRule> & Pick<PolicyRule, 'priority' | 'action'>): PolicyRule {
  return { family: 'inet', fwmark: 0, fwmask: 0, ...fields };
}

/** The kernel's own rules of a netns. */
const KERNEL_RULES: PolicyRule[] = [
  rule({ priority: 0, action: { lookup: 255 } }),
  rule({ priority: 32_766, action: { lookup: 254 } }),
  rule({ priority: 32_767, action: { lookup: 253 } }),
  rule({ family: 'inet6', priority: 0, action: { lookup: 255 } }),
  rule({ family: 'inet6', priority: 32_766, action: { lookup: 254 } }),
];

const ASSIGNMENT = emptyAssignment(1, ['inet', 'inet6']);

/** A node with these rules beside the kernel's, and local addresses in all their networks. */
function capabilitiesWith(rules: readonly PolicyRule[], strictReversePath = false): NodeCapabilities {
  const localSources = [...new Set(rules.flatMap(({ source }) => source ?? []))];
  const hostRouting = {
    rules: [...KERNEL_RULES, ...rules].sort((a, b) => a.priority - b.priority),
    localSources,
    strictReversePath,
  };
  return { ...CAPABILITIES, hostRouting };
}

function planned(rules: readonly PolicyRule[], strictReversePath = false): KernelObject[] {
  return planHostRouting(ASSIGNMENT, capabilitiesWith(rules, strictReversePath));
}

function unfollowed(rules: readonly PolicyRule[]): PolicyRule[] | undefined {
  return unfollowedHostRules(ASSIGNMENT, capabilitiesWith(rules));
}

/** Rules as `ip` and `iptables` write them. */
function words(objects: readonly KernelObject[]): string[] {
  return objects.flatMap((object) => (object.kind === 'chain' ? object.rules.map(ruleText) : renderObject(object)));
}

describe('the rules of a host', () => {
  it('with only the kernel’s own, wherever they are, cause nothing', () => {
    expect(planned([])).toEqual([]);
    expect(planned([rule({ priority: 100, action: { lookup: 255 } })])).toEqual([]);
    const suppressed = rule({ priority: 100, suppressPrefix: 0, action: { lookup: 254 } });
    expect(words(planned([suppressed]))).toEqual(['ip rule add priority 99 to 10.252.1.2 lookup 254 protocol 109']);
    expect(planHostRouting(emptyAssignment(1, ['inet']), CAPABILITIES)).toEqual([]);
  });

  it('that choose a table by source get a twin for answers, and answers a mark', () => {
    const found = planned([rule({ priority: 1_000, source: '198.51.100.1/32', action: { lookup: 100 } })]);
    expect(words(found)).toEqual([
      'ip rule add priority 999 to 10.252.1.2 lookup 254 protocol 109',
      'ip rule add priority 1000 from 10.252.1.2 fwmark 0x10000000/0x3f000000 lookup 100 protocol 109',
      '-m conntrack --ctorigdst 198.51.100.1 -j MARK --set-xmark 0x10000000/0x3f000000',
      'iptables -t mangle -I PREROUTING -i mesh0 -j MESH-PREROUTING',
    ]);
  });

  it('are followed for each family by itself', () => {
    const found = words(
      planned([rule({ family: 'inet6', priority: 7, source: '2001:db8:9::/48', action: 'unreachable' })]),
    );
    expect(found[0]).toBe('ip -6 rule add priority 6 to fd6d:65:73:1::2 lookup 254 protocol 109');
    expect(found[1]).toMatch(/^ip -6 rule add priority 7 from fd6d:65:73:1::2 fwmark \S+ unreachable protocol 109$/);
    expect(found[2]).toMatch(/^-m conntrack --ctorigdst 2001:db8:9::\/48 -j MARK/);
    expect(found[3]).toMatch(/^ip6tables -t mangle -I PREROUTING -i mesh0/);
  });

  it('keep their other selectors', () => {
    const given = rule({
      priority: 7,
      source: '198.51.100.0/24',
      destination: '203.0.113.0/24',
      fwmark: 1,
      fwmask: 0xff,
      ipProtocol: 6,
      sourcePorts: { from: 8080, to: 8090 },
      destinationPorts: { from: 1, to: 1 },
      suppressPrefix: 0,
      action: { lookup: 100 },
    });
    expect(words(planned([given]))[1]).toMatch(
      /^ip rule add priority 7 from 10\.252\.1\.2 to 203\.0\.113\.0\/24 fwmark 0x\w\w?000001\/0x3f0000ff ipproto 6 sport 8080-8090 dport 1 lookup 100 suppress_prefixlength 0 protocol 109$/,
    );
  });

  it('with a strict reverse path check make requests carry the mark, too', () => {
    const given = [rule({ priority: 1_000, source: '198.51.100.1/32', action: { lookup: 100 } })];
    const found = words(planned(given, true));
    expect(found).toContain('iptables -t mangle -I PREROUTING -j MESH-PREROUTING');
    expect(found).toContain('sysctl -qw net.ipv4.conf.all.src_valid_mark=1');
    expect(found.join('\n')).toMatch(
      /-m conntrack --ctstate NEW,DNAT -m conntrack --ctorigdst 198\.51\.100\.1 -j MARK/,
    );
  });

  it('that meshd cannot follow get no twin, but packets to the lb still pass by them', () => {
    for (const given of [
      rule({ priority: 5, source: '198.51.100.1/32', others: true, action: { lookup: 100 } }),
      rule({ priority: 5, fwmark: 1, fwmask: 0xff, action: { lookup: 100 } }),
      rule({
        priority: 5,
        source: '198.51.100.1/32',
        fwmark: 0x100_0000,
        fwmask: 0xff00_0000,
        action: { lookup: 100 },
      }),
    ]) {
      expect(words(planned([given]))).toEqual(['ip rule add priority 4 to 10.252.1.2 lookup 254 protocol 109']);
    }
  });

  it('that programs of the host follow and answers do not are known', () => {
    const source = '198.51.100.1/32';
    const ignored = [
      rule({ priority: 5, source, others: true, action: { lookup: 100 } }),
      rule({ priority: 6, source, inverted: true, ipProtocol: 6, action: { lookup: 100 } }),
    ];
    const rules = [
      ...ignored,
      rule({ priority: 7, source, action: { lookup: 100 } }),
      rule({ priority: 8, source, forwarded: true, action: { lookup: 100 } }),
      rule({ priority: 9, others: true, action: { lookup: 100 } }),
    ];
    expect(unfollowed(rules)).toEqual(ignored);
    expect(unfollowed([])).toEqual([]);
    expect(unfollowedHostRules(ASSIGNMENT, CAPABILITIES)).toBeUndefined();
    const many = Array.from({ length: 70 }, (_, index) =>
      rule({ priority: 6, source: `203.0.113.${index}/32`, action: { lookup: 101 } }),
    );
    expect(unfollowed(many)).toHaveLength(7);
  });

  it('that match the lb and not the called address are passed by, one after the other', () => {
    const wide = (priority: number) => rule({ priority, source: '10.0.0.0/8', action: { lookup: 100 } });
    const own = (priority: number) => rule({ priority, source: '198.51.100.1/32', action: { lookup: 101 } });
    const detours = (...rules: PolicyRule[]) =>
      words(planned(rules)).flatMap(
        (text) => /priority (\d+) from 10.252.1.2 fwmark 0x0\/\S+ goto (\d+)/.exec(text)?.slice(1) ?? [],
      );
    expect(detours(wide(10))).toEqual(['9', '32766']);
    expect(detours(wide(10), wide(11))).toEqual(['9', '32766']);
    expect(detours(wide(10), wide(15))).toEqual(['14', '32766', '9', '14']);
    expect(detours(wide(10), own(12))).toEqual(['9', '12']);
    expect(unfollowed([wide(10), wide(15), own(20)])).toEqual([]);
    // No place before it, a rule that is needed beside it, another way into it.
    for (const rules of [
      [own(9), wide(10)],
      [wide(10), rule({ priority: 10, action: { lookup: 102 } })],
      [rule({ priority: 5, action: { goto: 10 } }), wide(10)],
    ]) {
      expect(detours(...rules)).toEqual([]);
      expect(unfollowed(rules)).toEqual(rules.filter(({ source }) => source === '10.0.0.0/8'));
    }
  });

  it('keep their mark while others come and go', () => {
    const one = rule({ priority: 5, source: '198.51.100.1/32', action: { lookup: 100 } });
    const others = Array.from({ length: 80 }, (_, index) =>
      rule({ priority: 6 + 2 * index, source: `203.0.113.${index}/32`, action: { lookup: 101 } }),
    );
    const marks = words(planned([one, ...others])).filter((text) => text.includes('--ctorigdst'));
    expect(marks).toHaveLength(63);
    expect(new Set(marks.map((text) => /--set-xmark (\S+)/.exec(text)?.[1])).size).toBe(63);
    const alone = words(planned([one]))[2];
    expect(words(planned([one, others[0]!]))).toContain(alone);
  });
});

it('the plan of a node contains them', () => {
  const rules = [...KERNEL_RULES, rule({ priority: 5, source: '198.51.100.1/32', action: { lookup: 100 } })];
  const hostRouting = { rules, localSources: ['198.51.100.1/32'], strictReversePath: true };
  const capabilities = { ...CAPABILITIES, hostRouting };
  const own = stateOf(planHostRouting(emptyAssignment(1, ['inet']), capabilities));
  const all = plan(emptyAssignment(1, ['inet']), capabilities);
  expect(own.size).toBe(5);
  for (const [key, object] of own) expect(all.get(key)).toEqual(object);
});

/*
 * The property: as the kernel evaluates rules, an answer meets the same actions as a packet that the host sends from the
 * called address.
 */

interface Probe {
  source: IpAddress;
  destination: IpAddress;
  mark: number;
  fromHost: boolean;
}

/** Actions in the order in which a packet meets them, if no table has a route for it. */
function actionsMet(rules: readonly PolicyRule[], packet: Probe): string[] {
  const met: string[] = [];
  let from = 0;
  for (const one of rules) {
    if (one.priority < from || !matches(one, packet)) continue;
    if (typeof one.action === 'object' && 'goto' in one.action) {
      const { goto } = one.action;
      // Without a rule of that very priority the kernel ignores it.
      if (rules.some(({ priority }) => priority === goto)) from = goto;
    } else if (one.action !== 'nop') met.push(`${one.priority} ${JSON.stringify(one.action)}`);
    if (typeof one.action === 'string' && one.action !== 'nop') break;
  }
  return met;
}

function matches(one: PolicyRule, packet: Probe): boolean {
  const within = (network: Cidr | undefined, address: IpAddress) => network === undefined || isWithin(address, network);
  const all =
    within(one.source, packet.source) &&
    within(one.destination, packet.destination) &&
    ((packet.mark ^ one.fwmark) & one.fwmask) === 0 &&
    (!one.fromHost || packet.fromHost);
  return all !== (one.inverted ?? false);
}

/** The mark that the chain gives a connection to that address. */
function answerMark(objects: readonly KernelObject[], calledAddress: IpAddress): number {
  let mark = 0;
  for (const object of objects) {
    if (object.kind !== 'chain') continue;
    for (const one of object.rules) {
      if ('text' in one || one.target.target !== 'set mark') continue;
      const isCalled = one.matches.every(
        (match) => match.match !== 'called address' || isWithin(calledAddress, match.network),
      );
      if (isCalled) mark = one.target.mark;
    }
  }
  return mark;
}

const NETWORKS = [
  '198.51.100.0/24',
  '198.51.100.0/28',
  '198.51.100.1/32',
  '203.0.113.5/32',
  '10.0.0.0/8',
  '10.252.0.0/14',
];
const CALLED = ['198.51.100.1', '198.51.100.2', '198.51.100.77', '203.0.113.5', '10.1.2.3', '192.0.2.1'];

const anyPolicyRule = fc
  .record({
    source: fc.option(fc.constantFrom(...NETWORKS), { nil: undefined }),
    destination: fc.option(fc.constantFrom('192.0.2.0/24', '0.0.0.0/1'), { nil: undefined }),
    inverted: fc.boolean(),
    fromHost: fc.boolean(),
    action: fc.oneof(
      fc.integer({ min: 100, max: 103 }).map((lookup) => ({ lookup })),
      fc.constantFrom('unreachable' as const, 'nop' as const),
    ),
  })
  .map(
    ({ source, destination, inverted, fromHost, action }): Omit<PolicyRule, 'priority' | 'family' | keyof Marks> => ({
      ...(source === undefined ? {} : { source }),
      // The inverse of several conditions cannot be followed.
      ...(destination === undefined || inverted ? {} : { destination }),
      ...(inverted && source !== undefined ? { inverted: true as const } : {}),
      ...(fromHost && !inverted ? { fromHost: true as const } : {}),
      action,
    }),
  );
type Marks = Pick<RuleSelectors, 'fwmark' | 'fwmask'>;

it('an answer meets the same actions as a packet from the called address', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.integer({ min: 1, max: 3 }), anyPolicyRule), { maxLength: 6 }),
      fc.constantFrom(...CALLED),
      fc.constantFrom('192.0.2.77', '203.0.113.99'),
      (list, called, client) => {
        let priority = 10;
        const rules = list.map(([distance, fields]) => {
          priority += distance;
          return rule({ ...fields, priority });
        });
        fc.pre(unfollowed(rules)?.length === 0);
        const objects = planned(rules);
        const own = objects.flatMap((object): PolicyRule[] =>
          object.kind === 'host-rule' && object.family === 'inet' ? [object] : [],
        );
        // A new rule follows those of its priority; sort is stable.
        const inOrder = (list: readonly PolicyRule[]) => [...list].sort((a, b) => a.priority - b.priority);
        const host = inOrder([...KERNEL_RULES.filter(({ family }) => family === 'inet'), ...rules]);
        const merged = inOrder([...host, ...own]);
        const fromCalled = { source: called, destination: client, mark: 0, fromHost: true };
        const answer = { ...fromCalled, source: LB, mark: answerMark(objects, called), fromHost: false };
        expect(actionsMet(merged, answer)).toEqual(actionsMet(host, fromCalled));
        // And a request to the lb meets the table with its route before any rule of another program.
        if (rules.every(isKernelRule)) return;
        const request = { source: client, destination: LB, mark: answer.mark, fromHost: false };
        expect(actionsMet(merged, request)[0]).toBe('0 {"lookup":255}');
        expect(actionsMet(merged, request)[1]).toMatch(/^\d+ \{"lookup":254\}$/);
        // The kernel places a new rule without a priority just before the second one: before those of other programs.
        const foreign = Math.min(...rules.filter((one) => !isKernelRule(one)).map((one) => one.priority));
        expect(merged[1]!.priority).toBeGreaterThanOrEqual(foreign - 1);
      },
    ),
    { numRuns: 2_000 },
  );
});
