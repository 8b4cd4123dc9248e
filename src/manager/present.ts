import { wantedSlots } from '../decide/slots.ts';
import type { Node, Service, Task } from '../model/cluster.ts';
import { nodeToWire, serviceToWire, taskToWire } from '../rpc/convert-cluster.ts';
import type * as wire from '../rpc/gen/mesh.ts';
import type { ClusterIndex } from './cluster-index.ts';
import type { NodeReports } from './node-reports.ts';

/** Objects as clients see them: with names looked up and things counted. */
export interface Presenter {
  service(service: Service): wire.Service;
  task(task: Task): wire.Task;
  node(node: Node): wire.Node;
}

export function createPresenter(index: ClusterIndex, reports: NodeReports): Presenter {
  return {
    service: (service) =>
      serviceToWire(service, { running: index.counts(service.id).running, desired: desiredTasks(service, index) }),
    task: (task) => taskToWire(task, task.nodeId === undefined ? '' : (index.node(task.nodeId)?.name ?? task.nodeId)),
    node: (node) =>
      nodeToWire(node, {
        acknowledgedRevision: reports.acknowledged(node.id),
        tasksRunning: index.tasksOnNode(node.id).filter(({ status }) => status.state === 'running').length,
        conditions: reports.conditions(node.id),
      }),
  };
}

/** How many tasks a service should have. */
export function desiredTasks(service: Service, index: ClusterIndex): number {
  return service.spec.mode === 'global' ? wantedSlots(service, [...index.nodes()]).length : service.spec.replicas;
}
