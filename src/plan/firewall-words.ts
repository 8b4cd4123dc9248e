import type { Cidr, Protocol } from '../model/address.ts';
import type { ConnectionState, FirewallMatch, FirewallRule, FirewallTarget } from '../model/kinds/firewall-rule.ts';

/* Constructors of firewall rules: `rule(ACCEPT, input(HOST_LINK), connection('DNAT'))`. */

export function rule(target: FirewallTarget, ...matches: readonly FirewallMatch[]): FirewallRule {
  return { matches, target };
}

export const ACCEPT: FirewallTarget = { target: 'accept' };
export const DROP: FirewallTarget = { target: 'drop' };
export const RETURN: FirewallTarget = { target: 'return' };
export const MASQUERADE: FirewallTarget = { target: 'masquerade' };
export const NO_TRACKING: FirewallTarget = { target: 'no tracking' };
export const SAVE_MARK: FirewallTarget = { target: 'save mark' };
export const RESTORE_MARK: FirewallTarget = { target: 'restore mark' };

export const setMark = (mark: number): FirewallTarget => ({ target: 'set mark', mark });
export const setMarkBits = (mark: number, mask: number): FirewallTarget => ({ target: 'set mark', mark, mask });

export const not = (match: FirewallMatch): FirewallMatch => ({ ...match, not: true });
export const source = (network: Cidr): FirewallMatch => ({ match: 'source', network });
export const destination = (network: Cidr): FirewallMatch => ({ match: 'destination', network });
export const input = (link: string): FirewallMatch => ({ match: 'input', link });
export const output = (link: string): FirewallMatch => ({ match: 'output', link });
export const ofProtocol = (protocol: Protocol | 'ipv6-icmp'): FirewallMatch => ({ match: 'protocol', protocol });
export const connection = (...states: ConnectionState[]): FirewallMatch => ({ match: 'connection', states });
export const called = (network: Cidr): FirewallMatch => ({ match: 'called address', network });
export const inSet = (set: string, ...sides: ('src' | 'dst')[]): FirewallMatch => ({ match: 'set', set, sides });
export const marked = (mark: number): FirewallMatch => ({ match: 'mark', mark });
export const connectionMarked = (mark: number): FirewallMatch => ({ match: 'connmark', mark });
export const toLocalAddress: FirewallMatch = { match: 'local destination' };

/** UDP to a port. */
export const udpTo = (port: number): FirewallMatch[] => [ofProtocol('udp'), { match: 'port', protocol: 'udp', port }];
