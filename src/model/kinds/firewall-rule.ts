import type { Cidr, IpAddress, Protocol } from '../address.ts';
import { withoutHostPrefix } from '../block.ts';
import { either, type FieldCheck, ipAddress, listOf, network, number, optional, shape, text } from './fields.ts';
import { hex } from './words.ts';

/**
 * A rule of a chain as data. `iptables-save` prints the matches of the IP header first, in the order source,
 * destination, input, output, protocol, and the matches of modules as they were given: planned rules keep that order, so
 * that text and data correspond one to one. A rule that meshd has no data for is only its text.
 */
export type FirewallRule = { matches: readonly FirewallMatch[]; target: FirewallTarget } | { text: string };

/** `not` inverts a match. */
export type FirewallMatch = MatchCondition & { not?: true };

type MatchCondition =
  | { match: 'source' | 'destination'; network: Cidr }
  /** A trailing `+` matches any suffix. */
  | { match: 'input' | 'output'; link: string }
  | { match: 'protocol'; protocol: Protocol | 'ipv6-icmp' }
  /** The destination port. */
  | { match: 'port'; protocol: Protocol; port: number }
  /** The destination is an address of this netns. */
  | { match: 'local destination' }
  | { match: 'connection'; states: readonly ConnectionState[] }
  /** The destination of the first packet of the connection, before NAT; of both directions. */
  | { match: 'called address'; network: Cidr }
  /** `sides`: one for each dimension of the set. */
  | { match: 'set'; set: string; sides: readonly ('src' | 'dst')[] }
  /** All bits of the packet's, or the connection's, mark. */
  | { match: 'mark' | 'connmark'; mark: number }
  /** First packets of TCP connections, and answers to them. */
  | { match: 'syn' };

export type ConnectionState = 'NEW' | 'RELATED' | 'ESTABLISHED' | 'INVALID' | 'DNAT';

export type FirewallTarget =
  | { target: 'accept' | 'drop' | 'return' | 'masquerade' }
  | { target: 'reject'; with: string }
  | { target: 'dnat'; to: IpAddress }
  /** The destination port, at the same address. */
  | { target: 'dnat port'; port: number }
  /** The source port, at the same address, becomes one of these. */
  | { target: 'snat ports'; from: number; to: number }
  /** All bits of the packet's mark, or those of `mask`. */
  | { target: 'set mark'; mark: number; mask?: number }
  /** The mark that the set has for the destination port. */
  | { target: 'mark from set'; set: string }
  /** All bits, from packet to connection or back. */
  | { target: 'save mark' | 'restore mark' }
  | { target: 'no tracking' }
  /** The mark is the conntrack zone of packets in the original direction. */
  | { target: 'zone from mark' }
  | { target: 'clamp mss' }
  | { target: 'jump'; chain: string };

/** Header matches stand without `-m MODULE` and before those of modules. */
type RenderMatch = {
  [M in FirewallMatch['match']]: (match: Extract<FirewallMatch, { match: M }>, not: string) => string;
};

const MATCH_WORDS: RenderMatch = {
  source: ({ network }, not) => `${not}-s ${network}`,
  destination: ({ network }, not) => `${not}-d ${network}`,
  input: ({ link }, not) => `${not}-i ${link}`,
  output: ({ link }, not) => `${not}-o ${link}`,
  protocol: ({ protocol }, not) => `${not}-p ${protocol}`,
  port: ({ protocol, port }, not) => `-m ${protocol} ${not}--dport ${port}`,
  'local destination': (_, not) => `-m addrtype ${not}--dst-type LOCAL`,
  connection: ({ states }, not) => `-m conntrack ${not}--ctstate ${states.join(',')}`,
  // Without the prefix length of a single address, as iptables-save prints it.
  'called address': ({ network }, not) => `-m conntrack ${not}--ctorigdst ${withoutHostPrefix(network)}`,
  set: ({ set, sides }, not) => `-m set ${not}--match-set ${set} ${sides.join(',')}`,
  mark: ({ mark }, not) => `-m mark ${not}--mark ${hex(mark)}`,
  connmark: ({ mark }, not) => `-m connmark ${not}--mark ${hex(mark)}`,
  syn: (_, not) => `-m tcp ${not}--tcp-flags SYN,RST SYN`,
};

/** The mask of a mark that replaces the whole one. */
export const ALL_MARK_BITS = 0xffff_ffff;

const ALL_BITS = '--nfmask 0xffffffff --ctmask 0xffffffff';

type RenderTarget = { [T in FirewallTarget['target']]: (target: Extract<FirewallTarget, { target: T }>) => string };

const TARGET_WORDS: RenderTarget = {
  accept: () => 'ACCEPT',
  drop: () => 'DROP',
  return: () => 'RETURN',
  masquerade: () => 'MASQUERADE',
  reject: (target) => `REJECT --reject-with ${target.with}`,
  dnat: ({ to }) => `DNAT --to-destination ${to}`,
  'dnat port': ({ port }) => `DNAT --to-destination :${port}`,
  'snat ports': ({ from, to }) => `SNAT --to-source :${from}-${to}`,
  'set mark': ({ mark, mask = ALL_MARK_BITS }) => `MARK --set-xmark ${hex(mark)}/${hex(mask)}`,
  'mark from set': ({ set }) => `SET --map-set ${set} dst --map-mark`,
  'save mark': () => `CONNMARK --save-mark ${ALL_BITS}`,
  'restore mark': () => `CONNMARK --restore-mark ${ALL_BITS}`,
  'no tracking': () => 'CT --notrack',
  'zone from mark': () => 'CT --zone-orig mark',
  'clamp mss': () => 'TCPMSS --clamp-mss-to-pmtu',
  jump: ({ chain }) => chain,
};

/** The rule as iptables-save 1.8.9 prints it, legacy and nft alike, without `-A CHAIN`. */
export function ruleText(rule: FirewallRule): string {
  if ('text' in rule) return rule.text;
  return [...rule.matches.map(matchText), `-j ${targetText(rule.target)}`].join(' ');
}

/** Matches in the syntax of iptables-save, '' for none. */
export function matchesText(matches: readonly FirewallMatch[]): string {
  return matches.map(matchText).join(' ');
}

function matchText(match: FirewallMatch): string {
  const render = MATCH_WORDS[match.match] as (match: FirewallMatch, not: string) => string;
  return render(match, match.not ? '! ' : '');
}

function targetText(target: FirewallTarget): string {
  return (TARGET_WORDS[target.target] as (target: FirewallTarget) => string)(target);
}

/** Names of the sets that rules refer to, as far as they are data. */
export function setsOf(rules: readonly FirewallRule[]): string[] {
  return rules.flatMap((rule) => {
    if ('text' in rule) return [...rule.text.matchAll(/--(?:match|map|add|del)-set (\S+)/g)].map(([, name]) => name!);
    const matched = rule.matches.flatMap((match) => (match.match === 'set' ? [match.set] : []));
    return rule.target.target === 'mark from set' ? [...matched, rule.target.set] : matched;
  });
}

/** Names of the chains that rules jump to. */
export function chainsOf(rules: readonly FirewallRule[]): string[] {
  return rules.flatMap((rule) => {
    if ('text' in rule) return /(?:^| )-[jg] (\S+)$/.exec(rule.text)?.slice(1) ?? [];
    return rule.target.target === 'jump' ? [rule.target.chain] : [];
  });
}

const matchFields = shape({
  match: (value) => typeof value === 'string' && Object.hasOwn(MATCH_WORDS, value),
  network: optional(either(ipAddress, network)),
});
const targetFields = shape({
  target: (value) => typeof value === 'string' && Object.hasOwn(TARGET_WORDS, value),
  to: optional(either(ipAddress, number)),
});

/** The JSON form of a rule: data with every field that its text needs, or text. */
export const firewallRule: FieldCheck = (value) => {
  if (shape({ text })(value)) return true;
  if (!shape({ matches: listOf(matchFields), target: targetFields, text: optional(() => false) })(value)) return false;
  const rule = value as FirewallRule;
  try {
    return !ruleText(rule).includes('undefined');
  } catch {
    return false;
  }
};
