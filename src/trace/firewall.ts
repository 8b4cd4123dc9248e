import { familyOf, type IpAddress } from '../model/address.ts';
import { isWithin } from '../model/block.ts';
import { type FirewallChain, type KernelState, keyOf } from '../model/kernel-state.ts';
import type { Packet } from './packet.ts';
import { isInSet, markFromSet } from './sets.ts';

/** A chain of ours, judged for one packet: only words that our own chains use (src/plan/firewall.ts) are known. */
export interface ChainResult {
  verdict: 'accept' | 'drop' | 'reject' | 'continue';
  /** The packet after the chain. */
  packet: Packet;
  /** Rules that did something, in iptables-save words, with what they did. */
  matchedRules: { rule: string; effect: string }[];
}

/** What is around the packet. */
export interface PacketContext {
  state: KernelState;
  /** Whether an address belongs to the netns the packet is in. */
  isLocal(address: IpAddress): boolean;
}

/** Walks a chain of ours; undefined when the kernel has it not, or nothing leads into it. */
export function evaluateChain(
  hook: { table: FirewallChain['table']; from: string },
  packet: Packet,
  context: PacketContext,
): ChainResult | undefined {
  const { netns } = packet;
  const family = familyOf(packet.destination);
  const name = `MESH-${hook.from}`;
  const place = { netns, family, table: hook.table };
  const jump = keyOf({ kind: 'jump', ...place, from: hook.from, chain: name, match: '', position: 'first' });
  const chain = context.state.get(keyOf({ kind: 'chain', ...place, chain: name, rules: [] }));
  if (!context.state.has(jump) || chain?.kind !== 'chain') return undefined;
  return evaluateRules(chain.rules, packet, context);
}

function evaluateRules(rules: readonly string[], start: Packet, context: PacketContext): ChainResult {
  let packet = start;
  const matchedRules: ChainResult['matchedRules'] = [];
  for (const rule of rules) {
    const words = rule.split(' ');
    const targetIndex = words.indexOf('-j');
    if (targetIndex < 0 || !allMatch(words.slice(0, targetIndex), packet, context)) continue;
    const target = words[targetIndex + 1]!;
    const options = words.slice(targetIndex + 2);
    const result = applyTarget(target, options, packet, context);
    if (result === undefined) continue;
    packet = result.packet;
    if (result.effect !== '') matchedRules.push({ rule, effect: result.effect });
    if (result.verdict !== undefined) return { verdict: result.verdict, packet, matchedRules };
  }
  return { verdict: 'continue', packet, matchedRules };
}

interface TargetResult {
  packet: Packet;
  effect: string;
  verdict?: ChainResult['verdict'];
}

/** Undefined for a target that does nothing we can tell of. */
function applyTarget(
  target: string,
  options: string[],
  packet: Packet,
  { state }: PacketContext,
): TargetResult | undefined {
  const option = (name: string) => options[options.indexOf(name) + 1] ?? '';
  switch (target) {
    case 'ACCEPT':
      return { packet, effect: 'let through', verdict: 'accept' };
    case 'RETURN':
      return { packet, effect: '', verdict: 'continue' };
    case 'DROP':
      return { packet, effect: 'dropped', verdict: 'drop' };
    case 'REJECT':
      return { packet, effect: `refused with ${option('--reject-with')}`, verdict: 'reject' };
    case 'DNAT': {
      const destination = option('--to-destination');
      const effect = `destination becomes ${destination}`;
      return { packet: { ...packet, destination, translated: true }, effect, verdict: 'accept' };
    }
    case 'MASQUERADE':
      return { packet, effect: 'source becomes the address of this link', verdict: 'accept' };
    case 'SET': {
      const mark = markFromSet(state, packet.netns, option('--map-set'), packet.port);
      if (mark === undefined) return undefined;
      return { packet: { ...packet, mark }, effect: `fwmark becomes ${hex(mark)}` };
    }
    case 'MARK': {
      const mark = Number.parseInt(option('--set-xmark'), 16);
      return { packet: { ...packet, mark }, effect: mark === 0 ? 'mark taken off' : `mark becomes ${hex(mark)}` };
    }
    case 'CONNMARK': {
      if (options[0] === '--save-mark') {
        const effect = `the connection remembers mark ${hex(packet.mark)}`;
        return { packet: { ...packet, connmark: packet.mark }, effect };
      }
      return { packet: { ...packet, mark: packet.connmark }, effect: `mark becomes ${hex(packet.connmark)}` };
    }
    default:
      return undefined;
  }
}

/** Whether every match holds; one that is not known does not hold. A `!` may stand before any of them. */
function allMatch(words: readonly string[], packet: Packet, context: PacketContext): boolean {
  for (let index = 0; index < words.length; ) {
    const inverted = words[index] === '!';
    if (inverted) index += 1;
    const match = evaluateMatch(words, index, packet, context);
    if (match === undefined || match.holds === inverted) return false;
    index += match.words;
  }
  return true;
}

/** The match at `index`: whether it holds, and how many words it has. */
function evaluateMatch(
  words: readonly string[],
  index: number,
  packet: Packet,
  context: PacketContext,
): { holds: boolean; words: number } | undefined {
  const value = words[index + 1] ?? '';
  const result = (holds: boolean, count = 2) => ({ holds, words: count });
  switch (words[index]) {
    case '-i':
      return result(matchesLink(packet.inputLink, value));
    case '-o':
      return result(matchesLink(packet.outputLink, value));
    case '-s':
      return result(isWithin(packet.source, value));
    case '-d':
      return result(isWithin(packet.destination, value));
    case '-p':
      return result(packet.protocol === value);
    case '-m':
      return result(true); // names the module of the matches that follow
    case '--dst-type':
      return result(context.isLocal(packet.destination) === (value === 'LOCAL'));
    case '--dport':
      return result(packet.port === Number(value));
    case '--ctstate': {
      const states = value.split(',');
      const is = (name: string) => states.includes(name);
      return result((packet.translated && is('DNAT')) || is(packet.answer ? 'ESTABLISHED' : 'NEW'));
    }
    case '--match-set': {
      const sides = words[index + 2] ?? '';
      return result(isInSet(context.state, value, sides, packet), 3);
    }
    case '--mark':
      return result(
        Number.parseInt(value, 16) === (matchModule(words, index) === 'connmark' ? packet.connmark : packet.mark),
      );
    case '--tcp-flags':
      return result(packet.protocol === 'tcp', 3);
    default:
      return undefined;
  }
}

/** The module a match belongs to: the last `-m` before it. */
function matchModule(words: readonly string[], index: number): string {
  const at = words.lastIndexOf('-m', index);
  return at < 0 ? '' : (words[at + 1] ?? '');
}

function matchesLink(link: string | undefined, pattern: string): boolean {
  if (link === undefined) return false;
  return pattern.endsWith('+') ? link.startsWith(pattern.slice(0, -1)) : link === pattern;
}

function hex(mark: number): string {
  return `0x${mark.toString(16)}`;
}
