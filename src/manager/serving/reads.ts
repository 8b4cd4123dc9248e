import type { Service, Task } from '../../model/cluster.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { Control } from '../../rpc/gen/mesh_pb.js';
import type { Handlers } from '../../rpc/service.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { findNode, findService } from './find.ts';
import { desiredTaskCount, type Presenter } from './presenter.ts';

type Reads = Pick<Handlers<typeof Control>, 'listServices' | 'listPorts' | 'listTasks' | 'listNodes' | 'status'>;

/** What does not change over the life of a manager. */
export interface ManagerInfo {
  version: string;
  clusterId: string;
  /** Milliseconds since the epoch. */
  startedAt: number;
}

/** Calls that are answered from the index alone. */
export function readHandlers(index: ClusterIndex, presenter: Presenter, info: ManagerInfo): Reads {
  return {
    async listServices() {
      return { services: sortedServices(index).map(presenter.service) };
    },
    async listPorts() {
      return {
        ports: sortedServices(index).flatMap((service) =>
          service.spec.ports.map((port) => ({
            serviceId: service.id,
            serviceName: service.name,
            port,
            degraded: presenter.degraded(service, port),
            tasks: presenter.assignedHostPorts(service, port),
          })),
        ),
      };
    },
    async listTasks({ service, node, includeEnded }) {
      const ofService = service === undefined ? undefined : findService(index, service);
      const onNode = node === undefined ? undefined : findNode(index, node);
      const candidates = ofService
        ? index.tasksOfService(ofService.id)
        : onNode
          ? index.tasksOnNode(onNode.id)
          : [...index.tasks()];
      const tasks = candidates
        .filter((task) => onNode === undefined || task.nodeId === onNode.id)
        .filter((task) => includeEnded || !isTerminal(task.status.state))
        .sort(byServiceAndSlot);
      return { tasks: tasks.map(presenter.task) };
    },
    async listNodes() {
      return { nodes: [...index.nodes()].sort(byName).map(presenter.node) };
    },
    async status() {
      const nodes = [...index.nodes()];
      const { services, running } = index.totals();
      return {
        ...info,
        revision: index.revision,
        services,
        tasksRunning: running,
        tasksDesired: sortedServices(index).reduce((sum, service) => sum + desiredTaskCount(service, index), 0),
        nodesReady: nodes.filter(({ state }) => state === 'ready').length,
        nodes: nodes.length,
      };
    },
  };
}

function sortedServices(index: ClusterIndex): Service[] {
  return [...index.activeServices()].sort(byName);
}

export function byName(a: { name: string }, b: { name: string }): number {
  return compare(a.name, b.name);
}

/** The newest task of a slot first. */
function byServiceAndSlot(a: Task, b: Task): number {
  return compare(a.serviceName, b.serviceName) || a.slot - b.slot || b.createdAt - a.createdAt || compare(a.id, b.id);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
