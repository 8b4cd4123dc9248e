import type { Family } from '../address.ts';
import { HOST_NETNS } from '../linux-names.ts';
import type { Verb } from './kind.ts';

/** The verb of `ip` and `bridge`. */
export const IP_VERB: Record<Verb, string> = { create: 'add', change: 'replace', delete: 'del' };
/** The verb of `ipset` for an element. */
export const IPSET_VERB: Record<Verb, string> = { create: 'add', change: '-exist add', delete: 'del' };

export function ip(netns: string, family?: Family): string {
  return `ip${family === 'inet6' ? ' -6' : ''}${netns === HOST_NETNS ? '' : ` -n ${netns}`}`;
}

/** `bridge` or `tc`, which take a netns the same way. */
export function inNetns(tool: 'bridge' | 'tc', netns: string): string {
  return netns === HOST_NETNS ? tool : `${tool} -n ${netns}`;
}

/** Before a command that has no option for the netns. */
export function execPrefix(netns: string): string {
  return netns === HOST_NETNS ? '' : `ip netns exec ${netns} `;
}

export function iptables(netns: string, family: Family): string {
  return `${execPrefix(netns)}${family === 'inet6' ? 'ip6tables' : 'iptables'}`;
}

/** The host's netns has no name that ip(8) knows; process 1 lives in it, or in a netns its user calls host. */
export function netnsArgument(netns: string): string {
  return netns === HOST_NETNS ? '1' : netns;
}

export function hex(value: number): string {
  return `0x${(value >>> 0).toString(16)}`;
}
