import type { AssignedTask, Assignment, Peer, TargetPort } from '../model/assignment.ts';
import { requestedPrivileges } from '../model/capabilities.ts';
import type { Network, Node, Service, Task } from '../model/cluster.ts';
import type { TemplateSource } from '../model/generation.ts';
import { vtepMac } from '../model/identifiers.ts';
import type { PortSpec } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';
import { nodeBlock } from './allocate.ts';
import { redirectsOf } from './entrances.ts';
import { groupByPort, portForNode, portOffers } from './offers.ts';

/** The cluster with the lookups that an assignment needs, so that part of one does not require a full scan. */
export interface AssignmentView extends TemplateSource {
  revision: number;
  networks: readonly Network[];
  nodes(): Iterable<Node>;
  node(id: string): Node | undefined;
  /** Including removed ones that still have tasks. */
  services(): Iterable<Service>;
  service(id: string): Service | undefined;
  tasksOfService(serviceId: string): readonly Task[];
  tasksOnNode(nodeId: string): readonly Task[];
}

/** The complete assignment of one node. */
export function assignment(node: Node, view: AssignmentView): Assignment {
  return {
    revision: view.revision,
    self: { nodeId: node.id, name: node.name, number: node.number, underlay: node.underlay },
    networks: view.networks.flatMap((network) => {
      const subnets = blocksOf(network, node).map(({ family, cidr, block }) => ({ family, cidr, block }));
      return [{ id: network.id, name: network.name, vni: network.vni, subnets }];
    }),
    peers: [...view.nodes()].filter((other) => other.id !== node.id).map((other) => peer(other, view.networks)),
    ports: [...groupByPort([...view.services()].flatMap((service) => portOffers(service, view))).values()].flatMap(
      (offers) => portForNode(node, offers) ?? [],
    ),
    tasks: view.tasksOnNode(node.id).flatMap((task) => nodeTask(task, view.service(task.serviceId), view) ?? []),
  };
}

/** A node as its peers see it. One that is down stays a peer: it may only be unreachable for the managers. */
export function peer(node: Node, networks: readonly Network[]): Peer {
  return {
    nodeId: node.id,
    number: node.number,
    underlay: node.underlay,
    mac: vtepMac(node.number),
    blocks: networks.flatMap((network) =>
      blocksOf(network, node).map(({ family, block }) => ({ networkId: network.id, family, block })),
    ),
  };
}

function blocksOf(network: Network, node: Node) {
  return network.subnets.flatMap((subnet) => {
    const block = nodeBlock(subnet, node);
    return block === undefined ? [] : [{ family: subnet.family, cidr: subnet.cidr, block }];
  });
}

/** A task as assigned to its node's agent; undefined when the agent has nothing left to do. */
export function nodeTask(
  task: Task,
  service: Service | undefined,
  templates: TemplateSource,
): AssignedTask | undefined {
  if (task.nodeId === undefined || isTerminal(task.status.state)) return undefined;
  const template = templates.template(task);
  const declared = service?.spec.ports ?? [];
  // A number that the node picked is kept while connections through it are open.
  const pick = [...declared, ...(service?.leaving ?? []).map(({ port }) => port)].filter(
    ({ mode, published }) => mode === 'host' && published === undefined,
  );
  const redirects = service === undefined ? [] : redirectsOf(service);
  return {
    id: task.id,
    serviceId: task.serviceId,
    serviceName: task.serviceName,
    slot: task.slot,
    // A missing task keeps running until it is decided whether it is still needed.
    desired: task.desired === 'shutdown' ? 'shutdown' : 'running',
    addresses: task.addresses,
    process: {
      command: template.command,
      workingDir: template.workingDir,
      ...(template.user === undefined ? {} : { user: template.user }),
      ...requestedPrivileges(template),
      environment: template.environment,
      ...(template.log === undefined ? {} : { log: template.log }),
    },
    targets: targetPorts(declared),
    ...(pick.length === 0 ? {} : { pick: targetPorts(pick).map(({ protocol, port }) => ({ protocol, port })) }),
    ...(redirects.length === 0 ? {} : { redirects }),
    ...(template.health === undefined ? {} : { health: template.health }),
    stopGracePeriod: task.stopGracePeriod,
  };
}

/** Each target once, however many published ports map to it; it is bound on demand if all of them say so. */
function targetPorts(ports: readonly PortSpec[]): TargetPort[] {
  const targets = new Map<string, TargetPort>();
  for (const { protocol, target: port, ready } of ports) {
    const key = `${port}/${protocol}`;
    const isOnDemand = ready === false && (targets.get(key) ?? { ready }).ready === false;
    targets.set(key, { protocol, port, ...(isOnDemand ? { ready: false } : {}) });
  }
  return [...targets.values()];
}
