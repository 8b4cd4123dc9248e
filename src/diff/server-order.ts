import type { KernelState } from '../model/kernel-state.ts';
import { realServerKey } from '../model/kinds/real-server.ts';
import { serviceName, type VirtualService } from '../model/kinds/virtual-service.ts';

/*
 * The choice of sh and mh for a client depends on the order of the real servers, so all nodes must have the same. The
 * kernel keeps them in the order of creation and has no other way to move one than to delete it and create it again.
 */

/** How the real servers of hashing schedulers get into their order; by key of the real server. */
export interface ServerOrder {
  /** Sorts the steps about real servers of one service by their place in it. */
  positions: ReadonlyMap<string, string>;
  /** Existing, desired, and behind one that is to come before it. */
  misplaced: ReadonlySet<string>;
}

/** Of all desired services that hash. Those that are in place already, from the oldest on, are not touched. */
export function serverOrder(have: KernelState, want: KernelState): ServerOrder {
  const positions = new Map<string, string>();
  const misplaced = new Set<string>();
  for (const [key, service] of want) {
    if (service.kind !== 'virtual-service' || service.servers === undefined) continue;
    const name = serviceName(service);
    const keys = service.servers.map((server) => realServerKey(name, server));
    for (const [place, server] of keys.entries()) {
      positions.set(server, realServerKey(name, String(place).padStart(6, '0')));
    }
    const before = have.get(key);
    if (before?.kind !== 'virtual-service') continue;
    const existing = keys.filter((server) => have.has(server) && want.has(server));
    // A scheduler that does not hash was observed without the order: nothing is known of it.
    if (before.servers === undefined) {
      if (existing.length > 1 || existing[0] !== keys[0]) for (const server of existing) misplaced.add(server);
      continue;
    }
    const inPlaceCount = countInPlace(keys, before, new Set(existing));
    for (const server of existing.slice(inPlaceCount)) misplaced.add(server);
  }
  return { positions, misplaced };
}

/** How many of the desired, from the first on, exist in the desired order. */
function countInPlace(desired: readonly string[], service: VirtualService, existing: Set<string>): number {
  const name = serviceName(service);
  const position = new Map((service.servers ?? []).map((server, index) => [realServerKey(name, server), index]));
  let last = -1;
  for (const [count, server] of desired.entries()) {
    const at = existing.has(server) ? position.get(server) : undefined;
    if (at === undefined || at < last) return count;
    last = at;
  }
  return desired.length;
}
