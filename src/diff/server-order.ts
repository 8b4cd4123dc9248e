import { type KernelState, keyOf, serviceName, type VirtualService } from '../model/kernel-state.ts';

/*
 * What sh and mh pick for a client depends on the order of the real servers, so all nodes must have the same. The kernel
 * keeps them in the order in which they were made and has no other way to move one than to take it out and make it anew.
 */

/** How the real servers of hashing schedulers get into their order; by key of the real server. */
export interface ServerOrder {
  /** Place among those of its service, to make them in that order. */
  places: ReadonlyMap<string, number>;
  /** There, wanted, and behind one that is to come before it. */
  misplaced: ReadonlySet<string>;
}

/** Of all wanted services that hash. What stands at its place already, from the oldest on, is left alone. */
export function serverOrder(have: KernelState, want: KernelState): ServerOrder {
  const places = new Map<string, number>();
  const misplaced = new Set<string>();
  for (const [key, service] of want) {
    if (service.kind !== 'virtual-service' || service.servers === undefined) continue;
    const keys = service.servers.map((server) => keyOfServer(service, server));
    keys.forEach((server, place) => void places.set(server, place));
    const before = have.get(key);
    if (before?.kind !== 'virtual-service') continue;
    const there = keys.filter((server) => have.has(server) && want.has(server));
    // A scheduler that does not hash was looked at without the order: nothing is known of it.
    if (before.servers === undefined) {
      if (there.length > 1 || there[0] !== keys[0]) for (const server of there) misplaced.add(server);
      continue;
    }
    const standing = inPlace(keys, before, new Set(there));
    for (const server of there.slice(standing)) misplaced.add(server);
  }
  return { places, misplaced };
}

/** How many of the wanted, from the first on, are there in the wanted order. */
function inPlace(wanted: readonly string[], { servers = [], ...service }: VirtualService, there: Set<string>): number {
  const position = new Map(servers.map((server, index) => [keyOfServer(service, server), index]));
  let last = -1;
  for (const [count, server] of wanted.entries()) {
    const at = there.has(server) ? position.get(server) : undefined;
    if (at === undefined || at < last) return count;
    last = at;
  }
  return wanted.length;
}

function keyOfServer(service: Omit<VirtualService, 'servers'>, server: string): string {
  const [address = '', port = ''] = server.split(' ');
  return keyOf({ kind: 'real-server', ...serviceName(service), address, port: Number(port), weight: 0 });
}
