import { firewallObjects } from '../firewall/firewall-text.ts';
import { isManagedHere, type Observer } from '../observe/observer.ts';
import type { LinuxKind } from './kind.ts';

/** One run of iptables-save lists chains and the jumps into them. */
const observeFirewall: Observer = async (scan) => {
  if (!isManagedHere(scan, 'chain', 'jump')) return [];
  const { firewall, netns, includes, desired } = scan;
  const found = [];
  for (const family of ['inet', 'inet6'] as const) {
    const rules = await firewall.read(netns, family);
    for (const object of firewallObjects(netns, family, rules, (key) => desired().get(key))) {
      if (includes(object.kind)) found.push(object);
    }
  }
  return found;
};

/** iptables-nft causes events, iptables-legacy none; reading costs a process. */
export const FIREWALL_CLASS = {
  observer: observeFirewall,
  events: { source: 'nf_tables', complete: false },
  audit: 'costly',
  related: [],
} as const satisfies Partial<LinuxKind<'chain'> & LinuxKind<'jump'>>;
