import { byPort, type OffersView, type PortOffer, portOffers, portOn } from '../decide/offers.ts';
import type { AssignedPort } from '../model/assignment.ts';
import type { Node, Service, Task } from '../model/cluster.ts';
import { sameValue } from '../model/equality.ts';

/** Nodes that something changed for. */
export type Affected = 'all' | ReadonlySet<string>;

/** What the services offer under each published port, kept up to date service by service. */
export interface PortTable {
  /** A port as a node has to know it; undefined when the node does not get it. */
  on(node: Node, key: string): AssignedPort | undefined;
  allOn(node: Node): AssignedPort[];
  /** All offers but those of some services, by the key of their port. */
  offers(except: ReadonlySet<string>): PortOffer[];
  /** Works out the offers of a service anew; undefined when nothing is left of it. Returns the keys that changed, and for whom. */
  refresh(serviceId: string, service: Service | undefined): Map<string, Affected>;
  /** Keys of ports that not every node gets because of what it is. */
  selective(): Iterable<string>;
  /** Whether a node counts the connections of a task: it has it as a real server with weight 0. */
  drainsOn(node: Node, task: Pick<Task, 'id' | 'serviceId'>): boolean;
}

export function createPortTable(view: OffersView): PortTable {
  const byKey = new Map<string, Map<string, PortOffer[]>>();
  const keysOf = new Map<string, Set<string>>();

  const at = (key: string) => [...(byKey.get(key)?.values() ?? [])].flat();
  const on = (node: Node, key: string) => portOn(node, at(key));

  function set(key: string, serviceId: string, offers: PortOffer[] | undefined): void {
    const present = byKey.get(key);
    if (offers !== undefined) {
      if (present === undefined) byKey.set(key, new Map([[serviceId, offers]]));
      else present.set(serviceId, offers);
      return;
    }
    present?.delete(serviceId);
    if (present?.size === 0) byKey.delete(key);
  }

  return {
    on,
    allOn: (node) => [...byKey.keys()].flatMap((key) => on(node, key) ?? []),
    offers: (except) =>
      [...byKey.values()].flatMap((services) =>
        [...services].flatMap(([serviceId, offers]) => (except.has(serviceId) ? [] : offers)),
      ),
    refresh(serviceId, service) {
      const changed = new Map<string, Affected>();
      const had = keysOf.get(serviceId) ?? new Set<string>();
      const has = byPort(service === undefined ? [] : portOffers(service, view));
      for (const key of new Set([...had, ...has.keys()])) {
        const [before, after] = [byKey.get(key)?.get(serviceId), has.get(key)];
        if (sameValue(before, after)) continue;
        set(key, serviceId, after);
        changed.set(key, affected([...(before ?? []), ...(after ?? [])]));
      }
      if (has.size > 0) keysOf.set(serviceId, new Set(has.keys()));
      else keysOf.delete(serviceId);
      return changed;
    },
    *selective() {
      for (const key of byKey.keys()) if (at(key).some(({ nodes }) => nodes !== undefined)) yield key;
    },
    drainsOn(node, { id, serviceId }) {
      for (const key of keysOf.get(serviceId) ?? []) {
        const port = on(node, key);
        if (port?.endpoints.some(({ taskId, weight }) => taskId === id && weight === 0)) return true;
      }
      return false;
    },
  };
}

function affected(offers: readonly PortOffer[]): Affected {
  const nodes = new Set<string>();
  for (const { nodeId } of offers) {
    if (nodeId === undefined) return 'all';
    nodes.add(nodeId);
  }
  return nodes;
}
