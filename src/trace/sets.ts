import { familyOf } from '../model/address.ts';
import { isWithin } from '../model/block.ts';
import type { KernelState } from '../model/kernel-state.ts';
import { setKey } from '../model/kinds/ipset.ts';
import { NO_MATCH } from '../model/kinds/set-entry.ts';
import { setMemberKey } from '../model/kinds/set-member.ts';
import type { Packet } from './packet.ts';

/** Whether a set contains the packet; `sides` as in `--match-set NAME sides`, one for each dimension of the set. */
export function isInSet(state: KernelState, set: string, sides: readonly ('src' | 'dst')[], packet: Packet): boolean {
  const { netns, protocol, port, destination } = packet;
  const type = state.get(setKey(netns, set));
  if (type?.kind !== 'ipset') return false;
  if (type.type === 'bitmap:port') return state.has(setMemberKey(netns, set, port));
  if (type.family !== familyOf(destination)) return false;
  const [first, , last] = sides.map((side) => (side === 'src' ? packet.source : destination));
  let isMatched = false;
  for (const entry of state.values()) {
    if (entry.kind !== 'set-entry' || entry.netns !== netns || entry.set !== set) continue;
    if (entry.port !== undefined && (entry.port !== port || entry.protocol !== protocol)) continue;
    if (!isWithin(first!, entry.network)) continue;
    if (entry.network2 !== undefined && !isWithin(last!, entry.network2)) continue;
    if (entry.foreign?.includes(NO_MATCH)) return false;
    isMatched = true;
  }
  return isMatched;
}

/** The mark a port has in a set with skbinfo. */
export function markFromSet(state: KernelState, netns: string, set: string, port: number): number | undefined {
  const member = state.get(setMemberKey(netns, set, port));
  return member?.kind === 'set-member' ? member.mark : undefined;
}
