import { sameValue } from '../model/equality.ts';
import type { KernelObject, ObjectKind } from '../model/kernel-state.ts';

/**
 * The fields of each kind that the kernel cannot change on a living object (or only with a gap nobody should build on).
 * A difference in one of them means delete and create; in any other field, change in place.
 */
const IMMUTABLE_FIELDS: { [kind in ObjectKind]: readonly string[] } = {
  netns: [],
  veth: ['peer.netns', 'peer.name'],
  vxlan: ['underlayNetns', 'vni', 'local', 'port', 'gbp', 'learning'],
  sysctl: [],
  address: [],
  neighbour: [],
  fdb: [],
  route: [],
  rule: [],
  ipset: ['type', 'range', 'family', 'skbinfo'],
  'set-member': [],
  'set-entry': [],
  chain: [],
  jump: [],
  'ipvs-timeouts': [],
  'virtual-service': [],
  'real-server': [],
  'fast-path': [],
  'fast-path-task': [],
  'fast-path-port': [],
  'fast-path-peer': [],
};

/** How to get from one state of an object to another of the same key. */
export function transition(before: KernelObject, after: KernelObject): 'none' | 'change' | 'replace' {
  if (sameValue(before, after)) return 'none';
  if (before.kind === 'chain' && after.kind === 'chain' && before.administrator && after.administrator) return 'none';
  // The order of real servers is brought about by making them in that order (./server-order.ts).
  if (before.kind === 'virtual-service' && after.kind === 'virtual-service') {
    return sameValue({ ...before, servers: [] }, { ...after, servers: [] }) ? 'none' : 'change';
  }
  // A veth and a vxlan may have the same name, hence the same key.
  if (before.kind !== after.kind) return 'replace';
  const isMutable = IMMUTABLE_FIELDS[before.kind].every((path) =>
    sameValue(fieldAt(before, path), fieldAt(after, path)),
  );
  return isMutable ? 'change' : 'replace';
}

function fieldAt(object: KernelObject, path: string): unknown {
  return path.split('.').reduce<unknown>((value, name) => (value as Record<string, unknown>)[name], object);
}
