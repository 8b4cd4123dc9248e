import { keyOf } from '../model/kernel-state.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { renderObject } from '../model/render.ts';
import type { Hop, NodeState, Outcome } from './packet.ts';

export const REPAIR_HINT =
  'meshd puts it back within seconds; if it does not, see `meshctl history` and `meshctl node ls`';

/** A path under construction; `end` is set where the packet is refused or lost. */
export interface PartialPath {
  node: NodeState;
  hops: Hop[];
  end?: { outcome: Exclude<Outcome, 'answered'>; reason: string };
}

export function recordPass(partial: PartialPath, netns: string, object: string, effect: string): void {
  partial.hops.push({ node: partial.node.name, netns, object, effect, verdict: 'pass' });
}

export function recordStop(
  partial: PartialPath,
  outcome: 'refused' | 'lost',
  netns: string,
  object: string,
  reason: string,
): undefined {
  partial.hops.push({ node: partial.node.name, netns, object, effect: reason, verdict: outcome });
  partial.end = { outcome, reason: `${partial.node.name}: ${reason}` };
  return undefined;
}

/** The command that creates an object, shortened: `route 10.252.2.5/32 dev t-0a1b2c3d4e5f`. */
export function commandText(object: KernelObject): string {
  const words = renderObject(object);
  // The first command of a filter creates its qdisc, which is of no interest here.
  return ((object.kind === 'fast-path' ? words.at(-1) : words[0]) ?? keyOf(object))
    .replace(/^(ip netns exec \S+ )?((ip|bridge|tc)( -6)?( -n \S+)? )?/, '')
    .replace(/^(\S+) add /, '$1 ')
    .replace(/ (proto \d+|scope global)(?= |$)/g, '');
}
