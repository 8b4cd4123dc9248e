import type { Family } from '../model/address.ts';
import type { FirewallChain, FirewallTable } from '../model/kinds/chain.ts';
import { type FirewallMatch, type FirewallRule, matchesText } from '../model/kinds/firewall-rule.ts';
import type { FirewallJump } from '../model/kinds/jump.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { CHAIN_PREFIX } from '../model/linux-names.ts';

type Builtin = 'PREROUTING' | 'INPUT' | 'FORWARD' | 'OUTPUT' | 'POSTROUTING';

/** One chain of ours and the jump into it, before all other rules; only for packets that match, when specified. */
export function hookedChain(
  netns: string,
  family: Family,
  table: FirewallTable,
  from: Builtin,
  rules: FirewallRule[],
  ...matches: FirewallMatch[]
): KernelObject[] {
  const chain: FirewallChain = { kind: 'chain', netns, family, table, chain: CHAIN_PREFIX + from, rules };
  const jump: FirewallJump = {
    kind: 'jump',
    netns,
    family,
    table,
    from,
    chain: chain.chain,
    match: matchesText(matches),
    position: 'first',
  };
  return [chain, jump];
}
