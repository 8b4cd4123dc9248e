import type { Protocol } from '../address.ts';
import { hostNetwork } from '../block.ts';
import {
  ALL_MARK_BITS,
  type ConnectionState,
  type FirewallMatch,
  type FirewallRule,
  type FirewallTarget,
  ruleText,
} from './firewall-rule.ts';

/**
 * Parses a rule as iptables-save prints it, without `-A CHAIN`. Anything but the exact text of a rule that meshd has
 * data for stays text: `ruleText` of the result is always the given text.
 */
export function parseFirewallRule(text: string): FirewallRule {
  const reader: Words = { words: text.split(' '), at: 0 };
  const rule = readRule(reader);
  return rule !== undefined && reader.at === reader.words.length && ruleText(rule) === text ? rule : { text };
}

/** The words of a rule, and how many of them are read. */
interface Words {
  words: readonly string[];
  at: number;
}

function next(reader: Words): string {
  const word = reader.words[reader.at] ?? '';
  reader.at += 1;
  return word;
}

function readRule(reader: Words): FirewallRule | undefined {
  const matches: FirewallMatch[] = [];
  while (reader.at < reader.words.length) {
    if (reader.words[reader.at] === '-j') {
      reader.at += 1;
      const target = readTarget(reader);
      return target && { matches, target };
    }
    const match = readMatch(reader);
    if (match === undefined) return undefined;
    matches.push(match);
  }
  return undefined;
}

function readMatch(reader: Words): FirewallMatch | undefined {
  let inverted = takeNot(reader);
  const option = next(reader);
  const module = option === '-m' ? next(reader) : undefined;
  if (module !== undefined) inverted = takeNot(reader);
  const match = module === undefined ? headerMatch(option, next(reader)) : moduleMatch(module, reader);
  return match && (inverted ? { ...match, not: true } : match);
}

function takeNot(reader: Words): boolean {
  const inverted = reader.words[reader.at] === '!';
  if (inverted) reader.at += 1;
  return inverted;
}

function headerMatch(option: string, value: string): FirewallMatch | undefined {
  switch (option) {
    case '-s':
      return { match: 'source', network: value };
    case '-d':
      return { match: 'destination', network: value };
    case '-i':
      return { match: 'input', link: value };
    case '-o':
      return { match: 'output', link: value };
    case '-p':
      return isProtocol(value) ? { match: 'protocol', protocol: value } : undefined;
    default:
      return undefined;
  }
}

function moduleMatch(module: string, reader: Words): FirewallMatch | undefined {
  const option = next(reader);
  const value = next(reader);
  switch (`${module} ${option}`) {
    case 'tcp --dport':
    case 'udp --dport':
    case 'sctp --dport':
      return { match: 'port', protocol: module as Protocol, port: Number(value) };
    case 'addrtype --dst-type':
      return value === 'LOCAL' ? { match: 'local destination' } : undefined;
    case 'conntrack --ctstate': {
      const states = value.split(',');
      return states.every(isConnectionState) ? { match: 'connection', states } : undefined;
    }
    case 'conntrack --ctorigdst':
      return { match: 'called address', network: value.includes('/') ? value : hostNetwork(value) };
    case 'set --match-set': {
      const sides = next(reader).split(',');
      return sides.every(isSide) ? { match: 'set', set: value, sides } : undefined;
    }
    case 'mark --mark':
    case 'connmark --mark':
      return { match: module as 'mark' | 'connmark', mark: Number(value) };
    case 'tcp --tcp-flags':
      return value === 'SYN,RST' && next(reader) === 'SYN' ? { match: 'syn' } : undefined;
    default:
      return undefined;
  }
}

const PLAIN_TARGETS: Readonly<Record<string, FirewallTarget>> = {
  ACCEPT: { target: 'accept' },
  DROP: { target: 'drop' },
  RETURN: { target: 'return' },
  MASQUERADE: { target: 'masquerade' },
};

function readTarget(reader: Words): FirewallTarget | undefined {
  const name = next(reader);
  if (Object.hasOwn(PLAIN_TARGETS, name)) return PLAIN_TARGETS[name];
  const option = reader.words[reader.at];
  if (option === undefined) return { target: 'jump', chain: name };
  const rest = reader.words.slice(reader.at + 1);
  reader.at = reader.words.length;
  const [value = ''] = rest;
  switch (`${name} ${option}`) {
    case 'REJECT --reject-with':
      return { target: 'reject', with: value };
    case 'DNAT --to-destination':
      return value.startsWith(':')
        ? { target: 'dnat port', port: Number(value.slice(1)) }
        : { target: 'dnat', to: value };
    case 'SNAT --to-source': {
      const [, from, to] = /^:(\d+)-(\d+)$/.exec(value) ?? [];
      return from === undefined ? undefined : { target: 'snat ports', from: Number(from), to: Number(to) };
    }
    case 'MARK --set-xmark': {
      const [mark, mask] = value.split('/').map(Number);
      return { target: 'set mark', mark: mark!, ...(mask === ALL_MARK_BITS ? {} : { mask: mask! }) };
    }
    case 'SET --map-set':
      return { target: 'mark from set', set: value };
    case 'CONNMARK --save-mark':
      return { target: 'save mark' };
    case 'CONNMARK --restore-mark':
      return { target: 'restore mark' };
    case 'CT --notrack':
      return { target: 'no tracking' };
    case 'CT --zone-orig':
      return { target: 'zone from mark' };
    case 'TCPMSS --clamp-mss-to-pmtu':
      return { target: 'clamp mss' };
    default:
      return undefined;
  }
}

function isProtocol(value: string): value is 'tcp' | 'udp' | 'sctp' | 'ipv6-icmp' {
  return value === 'tcp' || value === 'udp' || value === 'sctp' || value === 'ipv6-icmp';
}

function isConnectionState(value: string): value is ConnectionState {
  return ['NEW', 'RELATED', 'ESTABLISHED', 'INVALID', 'DNAT'].includes(value);
}

function isSide(value: string): value is 'src' | 'dst' {
  return value === 'src' || value === 'dst';
}
