import { familyOf, type IpAddress } from '../model/address.ts';
import { isWithin } from '../model/block.ts';
import { type FirewallChain, type KernelState, keyOf } from '../model/kernel-state.ts';
import type { Packet } from './packet.ts';
import { isInSet, markFromSet } from './sets.ts';

/** A chain of ours, judged for one packet: only words that our own chains use (src/plan/firewall.ts) are known. */
export interface Judgement {
  verdict: 'accept' | 'drop' | 'reject' | 'continue';
  /** The packet after the chain. */
  packet: Packet;
  /** Rules that did something, in iptables-save words, with what they did. */
  met: { rule: string; effect: string }[];
}

/** What is around the packet. */
export interface Surroundings {
  state: KernelState;
  /** Whether an address belongs to the netns the packet is in. */
  isLocal(address: IpAddress): boolean;
}

/** Walks a chain of ours; undefined when the kernel has it not, or nothing leads into it. */
export function judge(
  hook: { table: FirewallChain['table']; from: string },
  packet: Packet,
  around: Surroundings,
): Judgement | undefined {
  const { netns } = packet;
  const family = familyOf(packet.destination);
  const name = `MESH-${hook.from}`;
  const place = { netns, family, table: hook.table };
  const jump = keyOf({ kind: 'jump', ...place, from: hook.from, chain: name, match: '', position: 'first' });
  const chain = around.state.get(keyOf({ kind: 'chain', ...place, chain: name, rules: [] }));
  if (!around.state.has(jump) || chain?.kind !== 'chain') return undefined;
  return walk(chain.rules, packet, around);
}

function walk(rules: readonly string[], start: Packet, around: Surroundings): Judgement {
  let packet = start;
  const met: Judgement['met'] = [];
  for (const rule of rules) {
    const words = rule.split(' ');
    const at = words.indexOf('-j');
    if (at < 0 || !matches(words.slice(0, at), packet, around)) continue;
    const target = words[at + 1]!;
    const options = words.slice(at + 2);
    const changed = act(target, options, packet, around);
    if (changed === undefined) continue;
    packet = changed.packet;
    if (changed.effect !== '') met.push({ rule, effect: changed.effect });
    if (changed.verdict !== undefined) return { verdict: changed.verdict, packet, met };
  }
  return { verdict: 'continue', packet, met };
}

interface Act {
  packet: Packet;
  effect: string;
  verdict?: Judgement['verdict'];
}

/** Undefined for a target that does nothing we can tell of. */
function act(target: string, options: string[], packet: Packet, { state }: Surroundings): Act | undefined {
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
function matches(words: readonly string[], packet: Packet, around: Surroundings): boolean {
  for (let index = 0; index < words.length; ) {
    const inverted = words[index] === '!';
    if (inverted) index += 1;
    const match = matchAt(words, index, packet, around);
    if (match === undefined || match.holds === inverted) return false;
    index += match.words;
  }
  return true;
}

/** The match at `index`: whether it holds, and how many words it has. */
function matchAt(
  words: readonly string[],
  index: number,
  packet: Packet,
  around: Surroundings,
): { holds: boolean; words: number } | undefined {
  const value = words[index + 1] ?? '';
  const held = (holds: boolean, count = 2) => ({ holds, words: count });
  switch (words[index]) {
    case '-i':
      return held(isLink(packet.from, value));
    case '-o':
      return held(isLink(packet.to, value));
    case '-s':
      return held(isWithin(packet.source, value));
    case '-d':
      return held(isWithin(packet.destination, value));
    case '-p':
      return held(packet.protocol === value);
    case '-m':
      return held(true); // names the module of the matches that follow
    case '--dst-type':
      return held(around.isLocal(packet.destination) === (value === 'LOCAL'));
    case '--dport':
      return held(packet.port === Number(value));
    case '--ctstate': {
      const states = value.split(',');
      const is = (name: string) => states.includes(name);
      return held((packet.translated && is('DNAT')) || is(packet.answer ? 'ESTABLISHED' : 'NEW'));
    }
    case '--match-set': {
      const sides = words[index + 2] ?? '';
      return held(isInSet(around.state, value, sides, packet), 3);
    }
    case '--mark':
      return held(
        Number.parseInt(value, 16) === (moduleOf(words, index) === 'connmark' ? packet.connmark : packet.mark),
      );
    case '--tcp-flags':
      return held(packet.protocol === 'tcp', 3);
    default:
      return undefined;
  }
}

/** The module a match belongs to: the last `-m` before it. */
function moduleOf(words: readonly string[], index: number): string {
  const at = words.lastIndexOf('-m', index);
  return at < 0 ? '' : (words[at + 1] ?? '');
}

function isLink(link: string | undefined, pattern: string): boolean {
  if (link === undefined) return false;
  return pattern.endsWith('+') ? link.startsWith(pattern.slice(0, -1)) : link === pattern;
}

function hex(mark: number): string {
  return `0x${mark.toString(16)}`;
}
