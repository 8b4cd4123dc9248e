import fc from 'fast-check';
import { expect, test } from 'vitest';
import { CAPABILITIES, threeNodes } from '../../plan/assignments.test-data.ts';
import { plan } from '../../plan/plan.ts';
import { type FirewallMatch, type FirewallRule, type FirewallTarget, firewallRule, ruleText } from './firewall-rule.ts';
import { parseFirewallRule } from './parse-firewall-rule.ts';

const word = fc.stringMatching(/^[a-z][a-z0-9-]{0,9}$/);
const network = fc.constantFrom('192.0.2.0/24', '10.252.1.2/32', 'fd6d::/48', '::1/128');
const mark = fc.nat(0xffff_ffff);
const side = fc.constantFrom('src' as const, 'dst' as const);
const state = fc.constantFrom('NEW' as const, 'RELATED' as const, 'ESTABLISHED' as const, 'DNAT' as const);

const anyCondition: fc.Arbitrary<FirewallMatch> = fc.oneof(
  fc.record({ match: fc.constantFrom('source' as const, 'destination' as const), network }),
  fc.record({ match: fc.constantFrom('input' as const, 'output' as const), link: word }),
  fc.record({
    match: fc.constant('protocol' as const),
    protocol: fc.constantFrom('tcp' as const, 'ipv6-icmp' as const),
  }),
  fc.record({ match: fc.constant('port' as const), protocol: fc.constant('udp' as const), port: fc.nat(65_535) }),
  fc.constant({ match: 'local destination' as const }),
  fc.record({ match: fc.constant('connection' as const), states: fc.array(state, { minLength: 1, maxLength: 3 }) }),
  fc.record({ match: fc.constant('called address' as const), network }),
  fc.record({ match: fc.constant('set' as const), set: word, sides: fc.array(side, { minLength: 1, maxLength: 3 }) }),
  fc.record({ match: fc.constantFrom('mark' as const, 'connmark' as const), mark }),
  fc.constant({ match: 'syn' as const }),
);
const anyMatch = fc
  .tuple(anyCondition, fc.boolean())
  .map(([match, inverted]): FirewallMatch => (inverted ? { ...match, not: true } : match));

const plainTarget = fc.constantFrom<FirewallTarget>(
  { target: 'accept' },
  { target: 'drop' },
  { target: 'return' },
  { target: 'masquerade' },
  { target: 'save mark' },
  { target: 'restore mark' },
  { target: 'no tracking' },
  { target: 'zone from mark' },
  { target: 'clamp mss' },
  { target: 'reject', with: 'tcp-reset' },
  { target: 'dnat', to: 'fd6d::2' },
  { target: 'dnat port', port: 53 },
  { target: 'snat ports', from: 64_512, to: 65_535 },
);
const anyTarget: fc.Arbitrary<FirewallTarget> = fc.oneof(
  plainTarget,
  fc.record({ target: fc.constant('set mark' as const), mark }),
  fc.record({ target: fc.constant('set mark' as const), mark, mask: fc.nat(0xffff_fffe) }),
  fc.record({ target: fc.constant('mark from set' as const), set: word }),
  fc.record({ target: fc.constant('jump' as const), chain: word }),
);
const anyRule: fc.Arbitrary<FirewallRule> = fc.record({
  matches: fc.array(anyMatch, { maxLength: 5 }),
  target: anyTarget,
});

test('a rule is parsed from its own text', () => {
  fc.assert(fc.property(anyRule, (rule) => void expect(parseFirewallRule(ruleText(rule))).toEqual(rule)));
});

test('text that is not exactly a rule of meshd stays text, and is never lost', () => {
  const near = fc.tuple(anyRule, fc.nat(80), fc.string({ maxLength: 4 })).map(([rule, at, piece]) => {
    const text = ruleText(rule);
    return text.slice(0, at) + piece + text.slice(at);
  });
  fc.assert(fc.property(near, (text) => void expect(ruleText(parseFirewallRule(text))).toBe(text)));
  for (const text of ['-j ACCEPT -m comment', '-p 253 -j DROP', '-j MARK --set-xmark 0x1', '']) {
    expect(parseFirewallRule(text)).toEqual({ text });
  }
});

test('every planned rule is read back as it was planned', () => {
  for (const object of plan(threeNodes(['inet', 'inet6']), { ...CAPABILITIES, fastPath: { link: 'eth0' } }).values()) {
    if (object.kind !== 'chain') continue;
    expect(object.rules.map((rule) => parseFirewallRule(ruleText(rule)))).toEqual(object.rules);
  }
});

test('the JSON form of a rule is checked for every field that its text needs', () => {
  fc.assert(fc.property(anyRule, (rule) => void expect(firewallRule(JSON.parse(JSON.stringify(rule)))).toBe(true)));
  for (const wrong of [
    {},
    { matches: [{}], target: { target: 'drop' } },
    { matches: [], target: { target: 'dnat' } },
  ]) {
    expect(firewallRule(wrong)).toBe(false);
  }
});
