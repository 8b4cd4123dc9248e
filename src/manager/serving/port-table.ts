import { groupByPort, type PortOffer, type PortOfferView, portForNode, portOffers } from '../../decide/offers.ts';
import type { AssignedPort } from '../../model/assignment.ts';
import type { Node, Service, Task } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';

/** Nodes that a change affects. */
export type AffectedNodes = 'all' | ReadonlySet<string>;

/** What the services offer on each published port, updated service by service. */
export interface PortTable {
  /** A port as assigned to a node; undefined when the node does not publish it. */
  port(node: Node, key: string): AssignedPort | undefined;
  ports(node: Node): AssignedPort[];
  /** All offers except those of some services. */
  offers(except: ReadonlySet<string>): PortOffer[];
  /** Computes the offers of a service again (undefined: it was removed). Returns the changed port keys and the nodes affected. */
  refresh(serviceId: string, service: Service | undefined): Map<string, AffectedNodes>;
  /** Keys of ports that only nodes matching their constraints publish. */
  restrictedPorts(): Iterable<string>;
  /** Whether a node counts the connections of a task, because it has it as a real server with weight 0. */
  countsConnections(node: Node, task: Pick<Task, 'id' | 'serviceId'>): boolean;
}

export function createPortTable(view: PortOfferView): PortTable {
  const byKey = new Map<string, Map<string, PortOffer[]>>();
  const keysOf = new Map<string, Set<string>>();

  const offersAt = (key: string) => [...(byKey.get(key)?.values() ?? [])].flat();
  const portFor = (node: Node, key: string) => portForNode(node, offersAt(key));

  function setOffers(key: string, serviceId: string, offers: PortOffer[] | undefined): void {
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
    port: portFor,
    ports: (node) => [...byKey.keys()].flatMap((key) => portFor(node, key) ?? []),
    offers: (except) =>
      [...byKey.values()].flatMap((services) =>
        [...services].flatMap(([serviceId, offers]) => (except.has(serviceId) ? [] : offers)),
      ),
    refresh(serviceId, service) {
      const changed = new Map<string, AffectedNodes>();
      const keysBefore = keysOf.get(serviceId) ?? new Set<string>();
      const offersAfter = groupByPort(service === undefined ? [] : portOffers(service, view));
      for (const key of new Set([...keysBefore, ...offersAfter.keys()])) {
        const [before, after] = [byKey.get(key)?.get(serviceId), offersAfter.get(key)];
        if (sameValue(before, after)) continue;
        setOffers(key, serviceId, after);
        changed.set(key, affectedNodes([...(before ?? []), ...(after ?? [])]));
      }
      if (offersAfter.size > 0) keysOf.set(serviceId, new Set(offersAfter.keys()));
      else keysOf.delete(serviceId);
      return changed;
    },
    *restrictedPorts() {
      for (const key of byKey.keys()) if (offersAt(key).some(({ nodes }) => nodes !== undefined)) yield key;
    },
    countsConnections(node, { id, serviceId }) {
      for (const key of keysOf.get(serviceId) ?? []) {
        const port = portFor(node, key);
        if (port?.endpoints.some(({ taskId, weight }) => taskId === id && weight === 0)) return true;
      }
      return false;
    },
  };
}

function affectedNodes(offers: readonly PortOffer[]): AffectedNodes {
  const nodes = new Set<string>();
  for (const { nodeId } of offers) {
    if (nodeId === undefined) return 'all';
    nodes.add(nodeId);
  }
  return nodes;
}
