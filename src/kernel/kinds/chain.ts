import type { FirewallChain } from '../../model/kinds/chain.ts';
import { ruleText } from '../../model/kinds/firewall-rule.ts';
import { CHAIN_PREFIX } from '../../model/linux-names.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { FIREWALL_CLASS } from './iptables.ts';
import { chainName, netnsNames, setName } from './kernel-rules.ts';
import type { LinuxKind } from './kind.ts';

/** A chain of iptables with its rules. */
export const chainKind: LinuxKind<'chain'> = {
  ...FIREWALL_CLASS,
  steps: ({ verb, object }) => [{ backend: 'firewall', netns: object.netns, op: { verb, object } }],
  failures: ERRNO_CODES,
  rules: {
    livesIn: ({ netns }) => netnsNames(netns),
    uses: (chain) => (chain.administrator === true ? [] : usedNames(chain)),
    undeletable: ({ administrator, rules }) => administrator === true && rules.length > 0,
  },
};

/** The sets and chains that its rules name: neither can be removed before the rule is. */
function usedNames({ netns, family, table, rules }: FirewallChain): string[] {
  return rules.map(ruleText).flatMap((rule) => {
    const sets = [...rule.matchAll(/--(?:match|map|add|del)-set (\S+)/g)].map(([, set = '']) => setName(netns, set));
    const target = /(?:^| )-[jg] (\S+)/.exec(rule)?.[1] ?? '';
    return target.startsWith(CHAIN_PREFIX) ? [...sets, chainName(netns, family, table, target)] : sets;
  });
}
