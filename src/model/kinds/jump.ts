import type { Family } from '../address.ts';
import { CHAIN_PREFIX } from '../linux-names.ts';
import { type FirewallTable, firewallTable } from './chain.ts';
import { family, oneOf, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { chainThing } from './things.ts';
import { iptables } from './words.ts';

/** The rule in a built-in chain that jumps into a chain of ours. */
export interface FirewallJump extends ObjectBase {
  kind: 'jump';
  family: Family;
  table: FirewallTable;
  from: string;
  chain: string;
  /** Matches before `-j`, in iptables-save syntax, often empty. */
  match: string;
  position: 'first' | 'last';
}

export const jump = defineKind<FirewallJump>({
  kind: 'jump',
  fields: { family, table: firewallTable, from: text, chain: text, match: text, position: oneOf('first', 'last') },
  key: jumpKey,
  stage: 'jumps',
  isOurs: ({ chain }) => chain.startsWith(CHAIN_PREFIX),
  holds: (object) => [chainThing(object.netns, object.family, object.table, object.chain)],
  commands: (object, verb, before) => [
    ...(verb === 'change' && before !== undefined ? [jumpWords(before, '-D')] : []),
    jumpWords(object, verb === 'delete' ? '-D' : object.position === 'first' ? '-I' : '-A'),
  ],
});

export function jumpKey(object: Pick<FirewallJump, 'netns' | 'family' | 'table' | 'from' | 'chain'>): string {
  return `jump ${object.netns} ${object.family} ${object.table} ${object.from} ${object.chain}`;
}

function jumpWords({ netns, family, table, from, chain, match }: FirewallJump, option: string): string {
  return `${iptables(netns, family)} -t ${table} ${option} ${from} ${match === '' ? '' : `${match} `}-j ${chain}`;
}
