import type { Family } from '../address.ts';
import { CHAIN_PREFIX } from '../linux-names.ts';
import { family, listOf, oneOf, optional, text } from './fields.ts';
import { chainsOf, type FirewallRule, firewallRule, ruleText, setsOf } from './firewall-rule.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { chainThing, setThing } from './things.ts';
import { iptables } from './words.ts';

export type FirewallTable = 'raw' | 'mangle' | 'nat' | 'filter';

/** A whole chain of ours. */
export interface FirewallChain extends ObjectBase {
  kind: 'chain';
  family: Family;
  table: FirewallTable;
  chain: string;
  rules: FirewallRule[];
  /** Only its existence is ours: its rules are the administrator's, neither compared nor touched. */
  administrator?: true;
}

export const firewallTable = oneOf('raw', 'mangle', 'nat', 'filter');

export const chain = defineKind<FirewallChain>({
  kind: 'chain',
  fields: {
    family,
    table: firewallTable,
    chain: text,
    rules: listOf(firewallRule),
    administrator: optional(oneOf(true)),
  },
  key: chainKey,
  stage: ({ administrator }) => (administrator ? 'administrator chains' : 'chains'),
  isOurs: (object) => object.chain.startsWith(CHAIN_PREFIX),
  provides: 'key',
  // Objects that the administrator's rules refer to must not be removed for the sake of ours.
  holds: ({ administrator, netns, family, table, rules }) =>
    administrator
      ? []
      : [
          ...setsOf(rules).map((name) => setThing(netns, name)),
          ...chainsOf(rules)
            .filter((name) => name.startsWith(CHAIN_PREFIX))
            .map((name) => chainThing(netns, family, table, name)),
        ],
  isEquivalent: (before, after) => before.administrator === true && after.administrator === true,
  isPermanent: ({ administrator, rules }) => administrator === true && rules.length > 0,
  readable: (object) => ({ ...object, rules: object.rules.map(ruleText) }),
  commands({ netns, family, table, chain, rules, administrator }, verb) {
    const command = `${iptables(netns, family)} -t ${table}`;
    // A chain with the administrator's rules is never emptied: -X refuses it then.
    if (administrator) return [`${command} ${verb === 'delete' ? '-X' : '-N'} ${chain}`];
    if (verb === 'delete') return [`${command} -F ${chain}`, `${command} -X ${chain}`];
    return [
      `${command} ${verb === 'create' ? '-N' : '-F'} ${chain}`,
      ...rules.map((rule) => `${command} -A ${chain} ${ruleText(rule)}`),
    ];
  },
});

export function chainKey(object: Pick<FirewallChain, 'netns' | 'family' | 'table' | 'chain'>): string {
  return chainThing(object.netns, object.family, object.table, object.chain);
}
