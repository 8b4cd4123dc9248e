import type { Family } from '../address.ts';
import { DEFAULT_DESTINATION } from '../block.ts';
import { RULE_PRIORITY } from '../linux-names.ts';
import { either, family, number, oneOf, shape } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { routeKey } from './route.ts';
import { hex, IP_VERB, ip } from './words.ts';

/** The kernel identifies a rule by all its fields, so rules are never changed: several may have one priority. */
export interface Rule extends ObjectBase {
  kind: 'rule';
  family: Family;
  priority: number;
  fwmark: number;
  fwmask: number;
  action: { lookup: number } | { goto: number } | 'nop';
}

const ALL_BITS = 0xffff_ffff;

export const rule = defineKind<Rule>({
  kind: 'rule',
  fields: {
    family,
    priority: number,
    fwmark: number,
    fwmask: number,
    action: either(oneOf('nop'), shape({ lookup: number }), shape({ goto: number })),
  },
  key: ({ netns, priority, fwmark, fwmask, action, ...rest }) =>
    `rule ${netns} ${rest.family} ${priority} ${fwmark}/${fwmask} ${actionWords(action)}`,
  stage: 'rules',
  isOurs: ({ priority }) => priority >= RULE_PRIORITY.first && priority <= RULE_PRIORITY.last,
  after(object) {
    if (object.action === 'nop' || 'goto' in object.action) return [];
    return [routeKey(object.netns, object.action.lookup, DEFAULT_DESTINATION[object.family])];
  },
  // The target of a goto has a higher priority number (fib_nl_newrule): it exists before and after the rules that jump to it.
  sortKey({ netns, priority, ...rest }, key, isRemoval) {
    const position = isRemoval ? priority : RULE_PRIORITY.main - priority;
    return `rule ${netns} ${rest.family} ${String(position).padStart(5, '0')} ${key}`;
  },
  commands(object, verb, before) {
    if (verb === 'change' && before !== undefined) return [ruleWords(before, 'del'), ruleWords(object, 'add')];
    return [ruleWords(object, IP_VERB[verb])];
  },
});

function ruleWords({ netns, family, priority, fwmark, fwmask, action }: Rule, verb: string): string {
  // Without a mask the kernel compares all bits, but for mark 0: then it compares none (fib_nl2rule).
  const mask = fwmask === ALL_BITS && fwmark !== 0 ? '' : `/${hex(fwmask)}`;
  return `${ip(netns, family)} rule ${verb} priority ${priority} fwmark ${hex(fwmark)}${mask} ${actionWords(action)}`;
}

function actionWords(action: Rule['action']): string {
  if (action === 'nop') return 'nop';
  return 'lookup' in action ? `lookup ${action.lookup}` : `goto ${action.goto}`;
}
