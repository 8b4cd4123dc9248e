import type { Protocol } from '../model/address.ts';
import type { AssignedPort, AssignedTask, Assignment, Endpoint, Peer } from '../model/assignment.ts';
import { isTerminal, type Network, type Node, type Service, type Task } from '../model/cluster.ts';
import { INGRESS_NETWORK, vtepMac } from '../model/names.ts';
import type { PortSpec } from '../model/spec.ts';
import { nodeBlock } from './allocate.ts';

/** The cluster with the look-ups that an assignment needs, so that a part of one costs no walk over everything. */
export interface AssignView {
  revision: number;
  networks: readonly Network[];
  nodes(): Iterable<Node>;
  node(id: string): Node | undefined;
  services(): Iterable<Service>;
  service(id: string): Service | undefined;
  tasksOfService(serviceId: string): readonly Task[];
  tasksOnNode(nodeId: string): readonly Task[];
}

/** Everything one node has to know, complete. */
export function assignment(node: Node, view: AssignView): Assignment {
  return {
    revision: view.revision,
    self: { nodeId: node.id, name: node.name, number: node.number, underlay: node.underlay },
    networks: view.networks.flatMap((network) => {
      const subnets = blocks(network, node).map(({ family, cidr, block }) => ({ family, cidr, block }));
      return [{ id: network.id, name: network.name, vni: network.vni, subnets }];
    }),
    peers: [...view.nodes()].filter((other) => other.id !== node.id).map((other) => peer(other, view.networks)),
    ports: [...view.services()].flatMap((service) => servicePorts(service, view)),
    tasks: view.tasksOnNode(node.id).flatMap((task) => nodeTask(task, view.service(task.serviceId)) ?? []),
  };
}

/** A node as its peers see it. One that is down stays a peer: it may only be the managers who cannot reach it. */
export function peer(node: Node, networks: readonly Network[]): Peer {
  return {
    nodeId: node.id,
    number: node.number,
    underlay: node.underlay,
    mac: vtepMac(node.number),
    blocks: networks.flatMap((network) =>
      blocks(network, node).map(({ family, block }) => ({ networkId: network.id, family, block })),
    ),
  };
}

function blocks(network: Network, node: Node) {
  return network.subnets.flatMap((subnet) => {
    const block = nodeBlock(subnet, node);
    return block === undefined ? [] : [{ family: subnet.family, cidr: subnet.cidr, block }];
  });
}

/** The published ports of a service with the tasks behind them, in the order of their ports. */
export function servicePorts(
  service: Service,
  view: Pick<AssignView, 'networks' | 'node' | 'tasksOfService'>,
): AssignedPort[] {
  const ingress = view.networks.find((network) => network.name === INGRESS_NETWORK);
  if (ingress === undefined) return [];
  const serving = view
    .tasksOfService(service.id)
    .filter((task) => serves(task, view.node(task.nodeId ?? '')))
    .sort((a, b) => a.slot - b.slot || (a.id < b.id ? -1 : 1));
  return service.spec.ports.flatMap((port) => {
    if (port.mode !== 'ingress' || port.published === undefined) return [];
    return [
      {
        protocol: port.protocol,
        published: port.published,
        mode: port.mode,
        serviceId: service.id,
        serviceName: service.name,
        scheduler: port.scheduler ?? 'rr',
        ...balancing(port),
        endpoints: serving.flatMap((task) => endpoints(task, port, ingress.id)),
      },
    ];
  });
}

/** How a port is balanced and who may come in, as its node has to know it. */
function balancing(port: PortSpec): Partial<AssignedPort> {
  const { schedulerFlags, fallback, persistence, idleTimeout, policy, addresses, allowFrom } = port;
  const given = { schedulerFlags, fallback, persistence, idleTimeout, policy, addresses, allowFrom };
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
}

/** Whether a task stands behind its ports: it runs, and the node it runs on is there. */
function serves(task: Task, node: Node | undefined): boolean {
  return (
    node?.state === 'ready' &&
    task.status.state === 'running' &&
    (task.desired === 'running' || task.desired === 'drain')
  );
}

function endpoints(task: Task, port: PortSpec, networkId: string): Endpoint[] {
  const weight = task.desired === 'drain' ? 0 : 1;
  // Weight 0 would keep a talkative UDP client on a task that is about to go; without the real server it moves on.
  if (weight === 0 && port.protocol === 'udp') return [];
  return task.addresses
    .filter((own) => own.networkId === networkId)
    .map(({ address }) => ({ taskId: task.id, nodeId: task.nodeId!, address, port: port.target, weight }));
}

/** A task as its node's agent gets it; undefined when there is nothing left for the agent to do. */
export function nodeTask(task: Task, service: Service | undefined): AssignedTask | undefined {
  if (task.nodeId === undefined || isTerminal(task.status.state)) return undefined;
  const { spec } = task;
  return {
    id: task.id,
    serviceId: task.serviceId,
    serviceName: task.serviceName,
    slot: task.slot,
    // A missing task goes on until it is decided whether it is still needed.
    desired: task.desired === 'shutdown' ? 'shutdown' : 'running',
    addresses: task.addresses,
    process: {
      command: spec.command,
      workingDir: spec.workingDir,
      ...(spec.user === undefined ? {} : { user: spec.user }),
      environment: spec.environment,
    },
    targets: targets(service?.spec.ports ?? spec.ports),
    stopGracePeriod: spec.stopGracePeriod,
  };
}

/** Each target once, however many published ports lead to it. */
function targets(ports: readonly PortSpec[]): { protocol: Protocol; port: number }[] {
  const seen = new Map(ports.map((port) => [`${port.target}/${port.protocol}`, port]));
  return [...seen.values()].map(({ protocol, target }) => ({ protocol, port: target }));
}
