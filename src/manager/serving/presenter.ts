import { desiredSlots } from '../../decide/slots.ts';
import { FAMILY_NAMES, type Family } from '../../model/address.ts';
import type { Node, Service, Task } from '../../model/cluster.ts';
import { formatPorts } from '../../model/port-ranges.ts';
import type { PortSpec } from '../../model/spec.ts';
import type * as rpc from '../../rpc/messages.ts';
import { type ClusterIndex, isLimited } from './cluster-index.ts';
import type { NodeReports } from './node-reports.ts';
import type { Publications } from './publications.ts';

/** Objects as clients see them, with names and counts. */
export interface Presenter {
  service(service: Service): rpc.Service;
  task(task: Task): rpc.Task;
  node(node: Node): rpc.Node;
  /** Where a published port of a service differs from its declaration, and why. */
  degraded(service: Service, port: PortSpec): rpc.NodePortCondition[];
  /** The numbers that nodes picked for a host mode port without one. */
  assignedHostPorts(service: Service, port: PortSpec): rpc.TaskPort[];
}

const FAMILIES: readonly Family[] = ['inet', 'inet6'];
/** Names of pending nodes that a service shows. */
const MAX_PENDING = 10;

export function createPresenter(
  index: ClusterIndex,
  reports: NodeReports,
  publications: Pick<Publications, 'pendingNodes'>,
): Presenter {
  const nodeNameOf = (nodeId: string | undefined) => (nodeId === undefined ? '' : (index.node(nodeId)?.name ?? nodeId));
  const degradedOnNodes = ({ protocol, published }: PortSpec): rpc.NodePortCondition[] =>
    [...index.nodes()].flatMap((node) =>
      reports
        .portConditions(node.id)
        .filter((one) => one.protocol === protocol && one.published === published)
        .map(({ kind, message }) => ({ nodeId: node.id, nodeName: node.name, kind, message })),
    );
  const pendingOf = ({ id }: Service) => {
    const nodes = publications.pendingNodes(id);
    const names = [...nodes].slice(0, MAX_PENDING).map(nodeNameOf);
    return { pending: nodes.size, pendingNodes: names.sort() };
  };
  const limitedTasks = ({ id }: Service) =>
    index.taskCounts(id).limited === 0 ? [] : index.tasksOfService(id).filter(isLimited);
  const familyCondition = ({ slot, nodeId = '' }: Task, service: Service, family: Family, ports: string) => ({
    nodeId,
    nodeName: nodeNameOf(nodeId),
    kind: 'family' as const,
    message: `${service.name}.${slot} accepts no ${FAMILY_NAMES[family]} clients on its ${ports}`,
  });
  const degradedTasks = (service: Service, { protocol, target }: PortSpec): rpc.NodePortCondition[] =>
    limitedTasks(service).flatMap((task) =>
      (task.status.missing ?? [])
        .filter((one) => one.protocol === protocol && one.target === target)
        .map(({ family }) => familyCondition(task, service, family, `port ${target}`)),
    );
  /** One for each task and family, however many ports that concerns. */
  const limitedFamilies = (service: Service): rpc.NodePortCondition[] =>
    limitedTasks(service).flatMap((task) =>
      FAMILIES.flatMap((family) => {
        const ports = (task.status.missing ?? [])
          .filter((one) => one.family === family)
          .map(({ protocol, target }) => ({ protocol, port: target }));
        if (ports.length === 0) return [];
        const text = `${ports.length === 1 ? 'port' : 'ports'} ${formatPorts(ports)}`;
        return [familyCondition(task, service, family, text)];
      }),
    );
  const degraded = (service: Service, port: PortSpec) => [...degradedOnNodes(port), ...degradedTasks(service, port)];
  return {
    degraded,
    assignedHostPorts: (service, { protocol, target, published, mode }) =>
      mode !== 'host' || published !== undefined
        ? []
        : index
            .tasksOfService(service.id)
            .flatMap((task) =>
              (task.status.ports ?? [])
                .filter((port) => port.protocol === protocol && port.target === target)
                .map((port) => ({ taskId: task.id, nodeName: nodeNameOf(task.nodeId), published: port.published })),
            ),
    service: (service) => ({
      ...service,
      running: index.taskCounts(service.id).running,
      desired: desiredTaskCount(service, index),
      degraded: [
        ...service.spec.ports.flatMap((port) =>
          degradedOnNodes(port).map((one) => ({
            ...one,
            message: `${port.published}/${port.protocol}: ${one.message}`,
          })),
        ),
        ...limitedFamilies(service),
      ],
      ...pendingOf(service),
    }),
    task: (task) => ({
      ...task,
      nodeName: nodeNameOf(task.nodeId),
      command: index.template(task).command,
      ports: index.serviceOrRemoved(task.serviceId)?.spec.ports ?? [],
    }),
    node: (node) => ({
      ...node,
      acknowledgedRevision: reports.acknowledged(node.id),
      tasksRunning: index.tasksOnNode(node.id).filter(({ status }) => status.state === 'running').length,
      conditions: reports.conditions(node.id),
    }),
  };
}

/** Desired number of tasks of a service. */
export function desiredTaskCount(service: Service, index: ClusterIndex): number {
  return service.spec.mode === 'global' ? desiredSlots(service, [...index.nodes()]).length : service.spec.replicas;
}
