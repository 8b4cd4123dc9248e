import { type Family, familyOf } from '../model/address.ts';
import type { AssignedPort, Endpoint } from '../model/assignment.ts';
import type { Network, Node, Service, Task } from '../model/cluster.ts';
import { INGRESS_NETWORK } from '../model/identifiers.ts';
import { type Constraint, type PortSpec, portKey, type WeightSpec } from '../model/spec.ts';
import { acceptsLocalConnections, byJoinOrder, isDraining } from './endpoint-state.ts';
import { type Entrances, entrancePort, entrancesOf } from './entrances.ts';
import { isReachable } from './impairment.ts';
import { matchesConstraints } from './schedule.ts';

/**
 * A published port as one service offers it. Several services may offer one port: in host mode on different nodes, and
 * while one service still has open connections on a port that already belongs to another.
 */
export interface PortOffer {
  port: AssignedPort;
  /** The only node that publishes it; undefined in ingress mode. */
  nodeId?: string;
  /** Constraints that a node must match to publish it. */
  nodes?: Constraint[];
  /** No longer declared: kept for open connections only. */
  draining: boolean;
  /** Nodes with endpoints that only the node itself reaches. */
  unreachable?: string[];
}

export interface PortOfferView {
  networks: readonly Network[];
  node(id: string): Node | undefined;
  tasksOfService(serviceId: string): readonly Task[];
}

interface OfferedTask {
  task: Task;
  node: Node;
  /** 0 while it drains. */
  weight: number;
}

/** Where the tasks of a service are reached: the network of their addresses, and their ports. */
interface EndpointPlace {
  networkId: string;
  entrances: Entrances;
}

/** All offers of a service: the ports it declares with their endpoints, and the ports it is draining. */
export function portOffers(service: Service, view: PortOfferView): PortOffer[] {
  const network = view.networks.find(({ name }) => name === INGRESS_NETWORK);
  if (network === undefined) return [];
  const members = view
    .tasksOfService(service.id)
    .flatMap((task): OfferedTask[] => {
      const node = view.node(task.nodeId ?? '');
      if (node === undefined) return [];
      if (acceptsLocalConnections(task, node)) return [{ task, node, weight: weightOf(service.spec.weight, node) }];
      return isDraining(task, node) ? [{ task, node, weight: 0 }] : [];
    })
    .sort((a, b) => byJoinOrder(a.task, b.task));
  const drainingMembers = members.map((member) => ({ ...member, weight: 0 }));
  const place = { networkId: network.id, entrances: entrancesOf(service) };
  const declared = service.spec.ports.flatMap((port) =>
    service.removed
      ? offersForPort(service, port, drainingMembers, place, true)
      : offersForPort(service, port, members, place, false),
  );
  const drainingOffers = (service.leaving ?? []).flatMap(({ port }) =>
    offersForPort(service, port, drainingMembers, place, true),
  );
  return [...declared, ...drainingOffers];
}

function offersForPort(
  service: Service,
  port: PortSpec,
  members: readonly OfferedTask[],
  place: EndpointPlace,
  draining: boolean,
): PortOffer[] {
  const offer = (published: number, endpointMembers: readonly OfferedTask[]): PortOffer => ({
    port: {
      protocol: port.protocol,
      published,
      mode: port.mode,
      serviceId: service.id,
      serviceName: service.name,
      scheduler: port.scheduler ?? 'rr',
      ...balancingOptions(port),
      endpoints: endpointMembers.flatMap((member) => endpointsOf(member, port, place)),
    },
    ...(port.nodes === undefined ? {} : { nodes: port.nodes }),
    draining,
    ...unreachableNodes(endpointMembers),
  });
  const { published } = port;
  if (port.mode === 'ingress') return published === undefined ? [] : [offer(published, members)];
  return members.flatMap((member) => {
    const number =
      published === undefined ? nodeChosenPort(member.task, port) : fixedHostPort(member.task, port, published);
    return number === undefined ? [] : [{ ...offer(number, [member]), nodeId: member.node.id }];
  });
}

function unreachableNodes(members: readonly OfferedTask[]): Pick<PortOffer, 'unreachable'> {
  const ids = new Set(members.flatMap(({ node }) => (isReachable(node) ? [] : [node.id])));
  return ids.size === 0 ? {} : { unreachable: [...ids].sort() };
}

/** The number that the node of the task picked for a host mode port. */
function nodeChosenPort(task: Task, port: PortSpec): number | undefined {
  return task.status.ports?.find(({ protocol, target }) => protocol === port.protocol && target === port.target)
    ?.published;
}

function fixedHostPort(task: Task, { protocol }: PortSpec, published: number): number | undefined {
  return task.hostPorts?.includes(portKey({ protocol, published })) ? published : undefined;
}

/** Balancing and access options of a port, for its assignment. */
function balancingOptions(port: PortSpec): Partial<AssignedPort> {
  const { schedulerFlags, fallback, persistence, idleTimeout, policy, addresses, allowFrom } = port;
  const given = { schedulerFlags, fallback, persistence, idleTimeout, policy, addresses, allowFrom };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

function weightOf(weight: WeightSpec | undefined, node: Node): number {
  if (weight === undefined) return 1;
  const label = weight.label === undefined ? undefined : node.labels[weight.label];
  const number = label !== undefined && /^\d+$/.test(label) ? Number(label) : weight.default;
  return Math.min(65_535, Math.max(1, number));
}

function endpointsOf(
  { task, weight }: OfferedTask,
  port: PortSpec,
  { networkId, entrances }: EndpointPlace,
): Endpoint[] {
  const target = entrancePort(entrances, port);
  // With weight 0 a UDP client that keeps sending would stay on a task about to end; without the real server it moves on.
  if (weight === 0 && port.protocol === 'udp') return [];
  return task.addresses
    .filter((own) => own.networkId === networkId && acceptsOn(task, port, familyOf(own.address)))
    .map(({ address }) => ({ taskId: task.id, nodeId: task.nodeId!, address, port: target, weight }));
}

/** A task that accepts one family only is no endpoint in the other: clients would be refused. */
function acceptsOn({ status }: Task, { protocol, target }: PortSpec, family: Family): boolean {
  return !status.missing?.some((one) => one.family === family && one.target === target && one.protocol === protocol);
}

/**
 * One published port as assigned to one node, from all offers of its number. The service that declares it publishes it
 * immediately; tasks of services that dropped it remain real servers with weight 0 until their connections have ended.
 * Undefined when the node does not publish it.
 */
export function portForNode(node: Node, offers: readonly PortOffer[]): AssignedPort | undefined {
  const candidates = offers
    .filter(
      ({ nodeId, nodes }) => (nodeId === undefined || nodeId === node.id) && matchesConstraints(node, nodes ?? []),
    )
    .map((offer) => withReachableEndpoints(offer, node))
    .filter(({ draining: leaving, port }) => !leaving || port.endpoints.length > 0)
    .sort(byPrecedence);
  const [first] = candidates;
  if (first === undefined) return undefined;
  const seen = new Set(first.port.endpoints.map(endpointKey));
  const drainingEndpoints = candidates.slice(1).flatMap(({ draining, port }) => (draining ? port.endpoints : []));
  const added = drainingEndpoints.filter((endpoint) => {
    const isNew = !seen.has(endpointKey(endpoint));
    seen.add(endpointKey(endpoint));
    return isNew;
  });
  return added.length === 0 ? first.port : { ...first.port, endpoints: [...added, ...first.port.endpoints] };
}

/** Packets between a node and the tasks of another are lost when one of the two is unreachable. */
function withReachableEndpoints(offer: PortOffer, node: Node): PortOffer {
  const { port, unreachable = [] } = offer;
  const reachesOthers = isReachable(node);
  if (reachesOthers && unreachable.length === 0) return offer;
  const isReached = (nodeId: string) => nodeId === node.id || (reachesOthers && !unreachable.includes(nodeId));
  return { ...offer, port: { ...port, endpoints: port.endpoints.filter(({ nodeId }) => isReached(nodeId)) } };
}

function endpointKey({ address, port }: Endpoint): string {
  return `${address} ${port}`;
}

/** A declared port before a draining one, ingress before a number that a node picked. */
function byPrecedence(a: PortOffer, b: PortOffer): number {
  const rank = (offer: PortOffer) => Number(offer.draining) * 2 + Number(offer.port.mode === 'host');
  return rank(a) - rank(b) || (a.port.serviceId < b.port.serviceId ? -1 : Number(a.port.serviceId > b.port.serviceId));
}

/** Offers by the key of their port. */
export function groupByPort(offers: Iterable<PortOffer>): Map<string, PortOffer[]> {
  const groups = new Map<string, PortOffer[]>();
  for (const offer of offers) {
    const key = portKey(offer.port);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [offer]);
    else group.push(offer);
  }
  return groups;
}
