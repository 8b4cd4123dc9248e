import { expect, test } from 'vitest';
import { CAPABILITIES, threeNodes } from '../../plan/assignments.test-data.ts';
import { plan } from '../../plan/plan.ts';
import { keyOf } from '../kernel-state.ts';
import type { KindRegistry } from './kind.ts';
import { KINDS } from './registry.ts';

const kinds: KindRegistry = KINDS;
const sourceRule = { family: 'inet', priority: 9, source: '198.51.100.1/32', fwmark: 0, fwmask: 0 } as const;
const capabilities = {
  ...CAPABILITIES,
  fastPath: { link: 'eth0' },
  hostRouting: { rules: [{ ...sourceRule, action: { lookup: 100 } }], localSources: [], strictReversePath: false },
};
const planned = [...plan(threeNodes(['inet', 'inet6']), capabilities).values()];

test('plan uses every kind, and each planned object is recognised as ours', () => {
  expect(new Set(planned.map(({ kind }) => kind))).toEqual(new Set(Object.keys(KINDS)));
  for (const object of planned)
    expect([keyOf(object), kinds[object.kind]!.isOurs(object)]).toEqual([keyOf(object), true]);
});

test('objects under names that are not ours are not', () => {
  expect(KINDS.netns.isOurs({ kind: 'netns', netns: 'cni-1', loopbackUp: true })).toBe(false);
  const rule = { kind: 'rule', netns: 'host', family: 'inet', fwmark: 1, fwmask: 1, action: 'nop' } as const;
  expect(KINDS.rule.isOurs({ ...rule, priority: 32_766 })).toBe(false);
  expect(
    KINDS.chain.isOurs({ kind: 'chain', netns: 'host', family: 'inet', table: 'nat', chain: 'DOCKER', rules: [] }),
  ).toBe(false);
});

test('a fixed field is a field of the kind', () => {
  for (const { kind, fixedFields, fields } of Object.values(kinds)) {
    for (const [name = ''] of fixedFields)
      expect([kind, name, Object.hasOwn(fields, name)]).toEqual([kind, name, true]);
  }
});
