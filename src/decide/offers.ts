import type { AssignedPort, Endpoint } from '../model/assignment.ts';
import type { Network, Node, Service, Task } from '../model/cluster.ts';
import { INGRESS_NETWORK } from '../model/names.ts';
import { type Constraint, type PortSpec, portKey, type WeightSpec } from '../model/spec.ts';
import { matches } from './schedule.ts';
import { byJoining, isDraining, takesConnections } from './serve.ts';

/**
 * A published port as one service has it to give. Several services may offer one port: in host mode on different nodes,
 * and while one still has open connections on a port that is already another's.
 */
export interface PortOffer {
  port: AssignedPort;
  /** The only node that gets it; undefined in ingress mode. */
  nodeId?: string;
  /** What a node has to fulfil to get it. */
  nodes?: Constraint[];
  /** Given up: there only for the connections that are still open. */
  leaving: boolean;
}

export interface OffersView {
  networks: readonly Network[];
  node(id: string): Node | undefined;
  tasksOfService(serviceId: string): readonly Task[];
}

interface Member {
  task: Task;
  node: Node;
  /** 0 while it leaves. */
  weight: number;
}

/** All that a service offers: the ports it declares, with the tasks behind them, and those it gave up. */
export function portOffers(service: Service, view: OffersView): PortOffer[] {
  const network = view.networks.find(({ name }) => name === INGRESS_NETWORK);
  if (network === undefined) return [];
  const members = view
    .tasksOfService(service.id)
    .flatMap((task): Member[] => {
      const node = view.node(task.nodeId ?? '');
      if (node === undefined) return [];
      if (takesConnections(task, node)) return [{ task, node, weight: weightOf(service.spec.weight, node) }];
      return isDraining(task, node) ? [{ task, node, weight: 0 }] : [];
    })
    .sort((a, b) => byJoining(a.task, b.task));
  const leaving = members.map((member) => ({ ...member, weight: 0 }));
  const declared = service.spec.ports.flatMap((port) =>
    service.removed
      ? offersOf(service, port, leaving, network.id, true)
      : offersOf(service, port, members, network.id, false),
  );
  const givenUp = (service.leaving ?? []).flatMap(({ port }) => offersOf(service, port, leaving, network.id, true));
  return [...declared, ...givenUp];
}

function offersOf(
  service: Service,
  port: PortSpec,
  members: readonly Member[],
  networkId: string,
  leaving: boolean,
): PortOffer[] {
  const offer = (published: number, behind: readonly Member[]): PortOffer => ({
    port: {
      protocol: port.protocol,
      published,
      mode: port.mode,
      serviceId: service.id,
      serviceName: service.name,
      scheduler: port.scheduler ?? 'rr',
      ...balancing(port),
      endpoints: behind.flatMap((member) => endpoints(member, port, networkId)),
    },
    ...(port.nodes === undefined ? {} : { nodes: port.nodes }),
    leaving,
  });
  const { published } = port;
  if (port.mode === 'ingress') return published === undefined ? [] : [offer(published, members)];
  return members.flatMap((member) => {
    const own = published === undefined ? picked(member.task, port) : held(member.task, port, published);
    return own === undefined ? [] : [{ ...offer(own, [member]), nodeId: member.node.id }];
  });
}

/** The number of a host mode port that the node of the task chose. */
function picked(task: Task, port: PortSpec): number | undefined {
  return task.status.ports?.find(({ protocol, target }) => protocol === port.protocol && target === port.target)
    ?.published;
}

function held(task: Task, { protocol }: PortSpec, published: number): number | undefined {
  return task.hostPorts?.includes(portKey({ protocol, published })) ? published : undefined;
}

/** How a port is balanced and who may come in, as its node has to know it. */
function balancing(port: PortSpec): Partial<AssignedPort> {
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

function endpoints({ task, weight }: Member, port: PortSpec, networkId: string): Endpoint[] {
  // Weight 0 would keep a talkative UDP client on a task that is about to go; without the real server it moves on.
  if (weight === 0 && port.protocol === 'udp') return [];
  return task.addresses
    .filter((own) => own.networkId === networkId)
    .map(({ address }) => ({ taskId: task.id, nodeId: task.nodeId!, address, port: port.target, weight }));
}

/**
 * One published port as one node has to know it, from all that is offered under its number. Whoever declares it has it
 * at once; tasks of those who gave it up stay behind it with weight 0 until their connections have ended. Undefined
 * when the node does not get it.
 */
export function portOn(node: Node, offers: readonly PortOffer[]): AssignedPort | undefined {
  const mine = offers
    .filter(({ nodeId, nodes }) => (nodeId === undefined || nodeId === node.id) && matches(node, nodes ?? []))
    .filter(({ leaving, port }) => !leaving || port.endpoints.length > 0)
    .sort(byPrecedence);
  const [first] = mine;
  if (first === undefined) return undefined;
  const known = new Set(first.port.endpoints.map(serverOf));
  const old = mine.slice(1).flatMap(({ leaving, port }) => (leaving ? port.endpoints : []));
  const added = old.filter((endpoint) => {
    const isNew = !known.has(serverOf(endpoint));
    known.add(serverOf(endpoint));
    return isNew;
  });
  return added.length === 0 ? first.port : { ...first.port, endpoints: [...added, ...first.port.endpoints] };
}

function serverOf({ address, port }: Endpoint): string {
  return `${address} ${port}`;
}

/** A declared port before one that was given up, ingress before what a node picked for itself. */
function byPrecedence(a: PortOffer, b: PortOffer): number {
  const rank = (offer: PortOffer) => Number(offer.leaving) * 2 + Number(offer.port.mode === 'host');
  return rank(a) - rank(b) || (a.port.serviceId < b.port.serviceId ? -1 : Number(a.port.serviceId > b.port.serviceId));
}

/** Offers by the key of their port. */
export function byPort(offers: Iterable<PortOffer>): Map<string, PortOffer[]> {
  const groups = new Map<string, PortOffer[]>();
  for (const offer of offers) {
    const key = portKey(offer.port);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [offer]);
    else group.push(offer);
  }
  return groups;
}
