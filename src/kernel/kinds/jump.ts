import { ERRNO_CODES } from './failure-codes.ts';
import { FIREWALL_CLASS } from './iptables.ts';
import { chainName, netnsNames } from './kernel-rules.ts';
import type { LinuxKind } from './kind.ts';

/** The rule of a built-in chain that jumps into a chain of ours. */
export const jumpKind: LinuxKind<'jump'> = {
  ...FIREWALL_CLASS,
  steps: ({ verb, object }) => [{ backend: 'firewall', netns: object.netns, op: { verb, object } }],
  failures: ERRNO_CODES,
  rules: {
    livesIn: ({ netns }) => netnsNames(netns),
    uses: ({ netns, family, table, chain }) => [chainName(netns, family, table, chain)],
  },
};
