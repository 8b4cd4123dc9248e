import type { IpAddress } from '../model/address.ts';
import type { FirewallTable } from '../model/kinds/chain.ts';
import { hex } from '../model/kinds/words.ts';
import { CHAIN_PREFIX, HOST_LINK, VXLAN_LINK } from '../model/linux-names.ts';
import { evaluateChain } from './firewall.ts';
import type { NodeState, Packet } from './packet.ts';
import { commandText, type PartialPath, REPAIR_HINT, recordPass, recordStop } from './partial-path.ts';
import { findRoute } from './routing.ts';

/** Evaluates a chain of ours; undefined if it drops the packet, or if a required chain is missing. */
export function traceChain(
  partial: PartialPath,
  hook: { table: FirewallTable; from: string },
  packet: Packet,
  isLocal: (address: IpAddress) => boolean,
  optional?: 'optional',
): Packet | undefined {
  const result = evaluateChain(hook, packet, { state: partial.node.state, isLocal });
  const chain = `-t ${hook.table} ${CHAIN_PREFIX}${hook.from}`;
  if (result === undefined) {
    if (optional) return packet;
    return recordStop(
      partial,
      'lost',
      packet.netns,
      chain,
      `the chain, or the jump into it, is missing: ${REPAIR_HINT}`,
    );
  }
  const ends = result.verdict === 'drop' || result.verdict === 'reject';
  const passed = ends ? result.matchedRules.slice(0, -1) : result.matchedRules;
  for (const { rule, effect } of passed) recordPass(partial, packet.netns, `${chain} ${rule}`, effect);
  if (!ends) return result.packet;
  const last = result.matchedRules.at(-1)!;
  const outcome = result.verdict === 'drop' ? 'lost' : 'refused';
  return recordStop(partial, outcome, packet.netns, `${chain} ${last.rule}`, last.effect);
}

/** Route types that forward nothing. */
const DISCARDS = /^(blackhole|unreachable|prohibit|throw|type )/;

/** The route, and its link. */
export function traceRoute(partial: PartialPath, packet: Packet): Packet | undefined {
  const found = findRoute(partial.node.state, packet);
  const { netns, destination } = packet;
  if (found === undefined)
    return recordStop(partial, 'lost', netns, `route to ${destination}`, `is missing: ${REPAIR_HINT}`);
  if (found.rule !== undefined) recordPass(partial, netns, commandText(found.rule), `mark ${hex(packet.mark)}`);
  if (found.route.foreign?.some((words) => DISCARDS.test(words))) {
    const reason = `another program made it: packets are discarded (${found.route.foreign.join(', ')}). ${REPAIR_HINT}`;
    return recordStop(partial, 'lost', netns, commandText(found.route), reason);
  }
  recordPass(partial, netns, commandText(found.route), `leaves by ${found.route.dev}`);
  const downReason = linkError(partial.node, netns, found.route.dev);
  if (downReason !== undefined)
    return recordStop(partial, 'lost', netns, `link ${found.route.dev}`, `${downReason}: ${REPAIR_HINT}`);
  return { ...packet, outputLink: found.route.dev };
}

function linkError({ state }: NodeState, netns: string, dev: string): string | undefined {
  for (const object of state.values()) {
    if (object.kind === 'vxlan' && object.netns === netns && object.name === dev) {
      return object.up ? undefined : 'is down';
    }
    if (object.kind !== 'veth') continue;
    const mine = object.netns === netns && object.name === dev;
    if (mine || (object.peer.netns === netns && object.peer.name === dev)) {
      return object.up && object.peer.up ? undefined : 'is down, or its other end is';
    }
  }
  return dev === HOST_LINK || dev.startsWith('t-') || dev === VXLAN_LINK ? 'is missing' : undefined;
}
