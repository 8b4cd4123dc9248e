import { familyOf, type IpAddress } from '../model/address.ts';
import { isWithin } from '../model/block.ts';
import type { KernelState } from '../model/kernel-state.ts';
import { chainKey, type FirewallTable } from '../model/kinds/chain.ts';
import {
  ALL_MARK_BITS,
  type FirewallMatch,
  type FirewallRule,
  type FirewallTarget,
  ruleText,
} from '../model/kinds/firewall-rule.ts';
import { jumpKey } from '../model/kinds/jump.ts';
import { parseFirewallRule } from '../model/kinds/parse-firewall-rule.ts';
import { hex } from '../model/kinds/words.ts';
import { CHAIN_PREFIX } from '../model/linux-names.ts';
import type { Packet } from './packet.ts';
import { isInSet, markFromSet } from './sets.ts';

/** The effect of a chain of ours on one packet. */
export interface ChainResult {
  verdict: 'accept' | 'drop' | 'reject' | 'continue';
  /** The packet after the chain. */
  packet: Packet;
  /** Rules that had an effect, in iptables-save syntax, with that effect. */
  matchedRules: { rule: string; effect: string }[];
}

/** The environment of the packet. */
export interface PacketContext {
  state: KernelState;
  /** Whether an address belongs to the netns the packet is in. */
  isLocal(address: IpAddress): boolean;
}

/** Evaluates a chain of ours, and the jump into it; undefined if it does not exist, or no rule jumps to it. */
export function evaluateChain(
  hook: { table: FirewallTable; from: string },
  packet: Packet,
  context: PacketContext,
): ChainResult | undefined {
  const { netns } = packet;
  const place = { netns, family: familyOf(packet.destination), table: hook.table, chain: CHAIN_PREFIX + hook.from };
  const chain = context.state.get(chainKey(place));
  const jump = context.state.get(jumpKey({ ...place, from: hook.from }));
  if (jump?.kind !== 'jump' || chain?.kind !== 'chain') return undefined;
  const entry = parseFirewallRule([...(jump.match === '' ? [] : [jump.match]), `-j ${jump.chain}`].join(' '));
  const isEntered = 'text' in entry || entry.matches.every((match) => holds(match, packet, context));
  return isEntered ? evaluateRules(chain.rules, packet, context) : { verdict: 'continue', packet, matchedRules: [] };
}

function evaluateRules(rules: readonly FirewallRule[], start: Packet, context: PacketContext): ChainResult {
  let packet = start;
  const matchedRules: ChainResult['matchedRules'] = [];
  for (const rule of rules) {
    if ('text' in rule) {
      matchedRules.push({ rule: rule.text, effect: 'is no rule of meshd: not evaluated' });
      continue;
    }
    if (!rule.matches.every((match) => holds(match, packet, context))) continue;
    const result = applyTarget(rule.target, packet, context);
    if (result === undefined) continue;
    packet = result.packet;
    if (result.effect !== '') matchedRules.push({ rule: ruleText(rule), effect: result.effect });
    if (result.verdict !== undefined) return { verdict: result.verdict, packet, matchedRules };
  }
  return { verdict: 'continue', packet, matchedRules };
}

interface TargetResult {
  packet: Packet;
  effect: string;
  verdict?: ChainResult['verdict'];
}

/** Undefined for a target that changes nothing a trace shows. */
function applyTarget(target: FirewallTarget, packet: Packet, { state }: PacketContext): TargetResult | undefined {
  switch (target.target) {
    case 'accept':
      return { packet, effect: 'accepted', verdict: 'accept' };
    case 'return':
      return { packet, effect: '', verdict: 'continue' };
    case 'drop':
      return { packet, effect: 'dropped', verdict: 'drop' };
    case 'reject':
      return { packet, effect: `refused with ${target.with}`, verdict: 'reject' };
    case 'dnat': {
      const effect = `destination becomes ${target.to}`;
      return { packet: { ...packet, destination: target.to, translated: true }, effect, verdict: 'accept' };
    }
    case 'dnat port': {
      const effect = `port becomes ${target.port}`;
      return { packet: { ...packet, port: target.port, translated: true }, effect, verdict: 'accept' };
    }
    case 'snat ports':
      return { packet, effect: `source port becomes one of ${target.from} to ${target.to}`, verdict: 'accept' };
    case 'masquerade':
      return { packet, effect: 'source becomes the address of this link', verdict: 'accept' };
    case 'mark from set': {
      const mark = markFromSet(state, packet.netns, target.set, packet.port);
      if (mark === undefined) return undefined;
      return { packet: { ...packet, mark }, effect: `fwmark becomes ${hex(mark)}` };
    }
    case 'set mark': {
      const { mask = ALL_MARK_BITS } = target;
      const mark = ((packet.mark & ~mask) | target.mark) >>> 0;
      return { packet: { ...packet, mark }, effect: mark === 0 ? 'mark removed' : `mark becomes ${hex(mark)}` };
    }
    case 'save mark': {
      const effect = `the connection remembers mark ${hex(packet.mark)}`;
      return { packet: { ...packet, connmark: packet.mark }, effect };
    }
    case 'restore mark':
      return { packet: { ...packet, mark: packet.connmark }, effect: `mark becomes ${hex(packet.connmark)}` };
    // The administrator's chain is not evaluated: its rules are checked by `meshctl doctor`.
    case 'jump':
    case 'no tracking':
    case 'zone from mark':
    case 'clamp mss':
      return undefined;
  }
}

function holds(match: FirewallMatch, packet: Packet, context: PacketContext): boolean {
  return matches(match, packet, context) !== (match.not ?? false);
}

/** Whether the condition is true, regardless of `not`. */
function matches(match: FirewallMatch, packet: Packet, { state, isLocal }: PacketContext): boolean {
  switch (match.match) {
    case 'input':
      return matchesLink(packet.inputLink, match.link);
    case 'output':
      return matchesLink(packet.outputLink, match.link);
    case 'source':
      return isWithin(packet.source, match.network);
    case 'destination':
      return isWithin(packet.destination, match.network);
    case 'protocol':
      return packet.protocol === match.protocol;
    case 'local destination':
      return isLocal(packet.destination);
    case 'port':
      return packet.protocol === match.protocol && packet.port === match.port;
    case 'connection': {
      const { states } = match;
      return (packet.translated && states.includes('DNAT')) || states.includes(packet.answer ? 'ESTABLISHED' : 'NEW');
    }
    case 'called address':
      return packet.called !== undefined && isWithin(packet.called, match.network);
    case 'set':
      return isInSet(state, match.set, match.sides, packet);
    case 'mark':
      return packet.mark === match.mark;
    case 'connmark':
      return packet.connmark === match.mark;
    case 'syn':
      return packet.protocol === 'tcp';
  }
}

function matchesLink(link: string | undefined, pattern: string): boolean {
  if (link === undefined) return false;
  return pattern.endsWith('+') ? link.startsWith(pattern.slice(0, -1)) : link === pattern;
}
