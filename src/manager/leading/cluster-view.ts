import type { AssignmentView } from '../../decide/assign.ts';
import type { PortOffer } from '../../decide/offers.ts';
import type { Listener, Node, Service, Task } from '../../model/cluster.ts';
import type { Generation } from '../../model/generation.ts';

/** The stored cluster as decisions read it. Implementations apply each commit before the next decision. */
export interface ClusterView extends AssignmentView {
  serviceByName(name: string): Service | undefined;
  nodeByName(name: string): Node | undefined;
  /** Services that have a port of this number and protocol. */
  servicesWithPort(key: string): Iterable<Service>;
  /** A service, a removed one too. */
  serviceOrRemoved(id: string): Service | undefined;
  /** Ids of services, removed ones too, that have tasks. */
  servicesWithTasks(): Iterable<string>;
  /** Ids of services, removed ones too, that have stored generations. */
  servicesWithGenerations(): Iterable<string>;
  /** Stored generations of a service. */
  generations(serviceId: string): Iterable<Generation>;
  /** Ids of services with tasks or ports that wait for connections to end. */
  draining(): Iterable<string>;
  /** Ids of services with tasks that wait for a node. */
  waiting(): Iterable<string>;
  globalServices(): Iterable<string>;
  task(id: string): Task | undefined;
  totals(): { services: number; running: number };
}

/** What nodes reported of themselves, as far as decisions depend on it. */
export interface NodeObservations {
  /** Newest revision that the node's kernel is known to hold; 0 when it has not reported one. */
  acknowledged(nodeId: string): number;
  /** As in decide/context.ts. */
  openConnections(taskId: string, revision: number): number | undefined;
  /** Codes of the conditions that the node reported and that have an effect, sorted. */
  impairments(nodeId: string): string[];
  /** Programs that listen on ports of the node, outside the mesh. */
  listeners(nodeId: string): readonly Listener[];
}

/** The offers of all services but some (`except`: ids). */
export type OfferSource = (except: ReadonlySet<string>) => PortOffer[];
