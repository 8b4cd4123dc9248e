import { type KernelState, keyOf, serviceIdentity, type VirtualService } from '../model/kernel-state.ts';

/*
 * What sh and mh pick for a client depends on the order of the real servers, so all nodes must have the same. The kernel
 * keeps them in the order in which they were made and has no other way to move one than to take it out and make it anew.
 */

/** How the real servers of hashing schedulers get into their order; by key of the real server. */
export interface ServerOrder {
  /** Place among those of its service, to make them in that order. */
  positions: ReadonlyMap<string, number>;
  /** There, wanted, and behind one that is to come before it. */
  misplaced: ReadonlySet<string>;
}

/** Of all wanted services that hash. What stands at its place already, from the oldest on, is left alone. */
export function serverOrder(have: KernelState, want: KernelState): ServerOrder {
  const positions = new Map<string, number>();
  const misplaced = new Set<string>();
  for (const [key, service] of want) {
    if (service.kind !== 'virtual-service' || service.servers === undefined) continue;
    const keys = service.servers.map((server) => realServerKey(service, server));
    keys.forEach((server, position) => void positions.set(server, position));
    const before = have.get(key);
    if (before?.kind !== 'virtual-service') continue;
    const existing = keys.filter((server) => have.has(server) && want.has(server));
    // A scheduler that does not hash was looked at without the order: nothing is known of it.
    if (before.servers === undefined) {
      if (existing.length > 1 || existing[0] !== keys[0]) for (const server of existing) misplaced.add(server);
      continue;
    }
    const inPlaceCount = countInPlace(keys, before, new Set(existing));
    for (const server of existing.slice(inPlaceCount)) misplaced.add(server);
  }
  return { positions, misplaced };
}

/** How many of the wanted, from the first on, are there in the wanted order. */
function countInPlace(
  desired: readonly string[],
  { servers = [], ...service }: VirtualService,
  existing: Set<string>,
): number {
  const position = new Map(servers.map((server, index) => [realServerKey(service, server), index]));
  let last = -1;
  for (const [count, server] of desired.entries()) {
    const at = existing.has(server) ? position.get(server) : undefined;
    if (at === undefined || at < last) return count;
    last = at;
  }
  return desired.length;
}

function realServerKey(service: Omit<VirtualService, 'servers'>, server: string): string {
  const [address = '', port = ''] = server.split(' ');
  return keyOf({ kind: 'real-server', ...serviceIdentity(service), address, port: Number(port), weight: 0 });
}
