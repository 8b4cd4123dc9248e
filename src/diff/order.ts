import type { KernelObject, ObjectKind } from '../model/kernel-state.ts';
import { LB_NETNS } from '../model/names.ts';
import { parentsOf } from './dependencies.ts';

/**
 * The one order: whatever an object depends on ranks below it. Built upwards, taken down downwards: paths before
 * traffic, and a published port's own entry in the host last in and first out.
 */
const ORDER: readonly ObjectKind[] = [
  'netns',
  'sysctl',
  'vxlan',
  'veth',
  'address',
  'neighbour',
  'fdb',
  'route',
  'rule',
  'ipset',
  'ipvs-timeouts',
  'chain',
  'jump',
  'virtual-service',
  'real-server',
  'set-member',
  'set-entry',
  'fast-path',
  'fast-path-task',
  'fast-path-port',
  'fast-path-peer',
];

/** Room for steps within a kind. */
const STRIDE = 2;
const RANK = new Map(ORDER.map((kind, index) => [kind, index * STRIDE]));

/** Small whole number; objects of one rank do not depend on each other. */
export function rankOf(object: KernelObject): number {
  const rank = RANK.get(object.kind)!;
  switch (object.kind) {
    case 'sysctl':
      // Those of conntrack are there when the first rule that needs it is.
      if (object.name.startsWith('net.netfilter.')) return RANK.get('jump')! + 1;
      return parentsOf(object).some((name) => name.startsWith('link ')) ? RANK.get('veth')! + 1 : rank;
    case 'route':
      return object.via === undefined ? rank : rank + 1;
    case 'set-member':
      return object.netns === LB_NETNS ? rank : rank + 1;
    case 'set-entry':
      // A peer let in is part of the path to it; a client let in is traffic.
      return object.port === undefined ? RANK.get('ipset')! + 1 : rank;
    case 'fast-path':
      // The way back before the way there: an answer that conntrack knows nothing of is refused on the plain path. What
      // the ports lead to is there when packets begin to ask for them.
      if (object.program?.type === 'host-in') return RANK.get('fast-path-peer')! + 1;
      return object.program?.type === 'router-in' ? rank + 1 : rank;
    case 'chain':
      return object.administrator === true ? rank : rank + 1;
    default:
      return rank;
  }
}
