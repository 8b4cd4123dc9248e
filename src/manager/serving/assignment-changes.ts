import { nodeTask } from '../../decide/assign.ts';
import { isReachable } from '../../decide/impairment.ts';
import type { Node, Service, Task } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import type { Change } from '../../store/store.ts';
import type { ClusterIndex } from './cluster-index.ts';
import type { AffectedNodes, PortTable } from './port-table.ts';

/** What one commit changes in the assignments of nodes, by key; the values are read when they are sent. */
export interface AssignmentChanges {
  revision: number;
  /** Nodes that changed as peers, or were removed. */
  peers: Set<string>;
  /** Keys of published ports, with the nodes affected. */
  ports: Map<string, AffectedNodes>;
  /** Services whose published ports changed, with the nodes affected. */
  published: Map<string, AffectedNodes>;
  /** Task ids by node. */
  tasks: Map<string, Set<string>>;
  /** Nodes that need a snapshot. */
  snapshotNodes: Set<string> | 'all';
  /** Every node must acknowledge this revision, even if nothing else changes for it. */
  ackRequired: boolean;
}

/** To be called after the index has applied the commit. Cost: O(tasks of the services that the commit affects). */
export function assignmentChanges(
  changes: readonly Change[],
  index: ClusterIndex,
  table: PortTable,
): AssignmentChanges {
  const result: AssignmentChanges = {
    revision: index.revision,
    peers: new Set(),
    ports: new Map(),
    published: new Map(),
    tasks: new Map(),
    snapshotNodes: new Set(),
    ackRequired: false,
  };
  const services = new Set<string>();
  for (const { collection, before, after } of changes) {
    if (collection === 'tasks')
      addTaskChange(result, services, index, before as Task | undefined, after as Task | undefined);
    else if (collection === 'services') {
      services.add((after ?? before)!.id);
      addServiceChange(result, index, before as Service | undefined, after as Service | undefined);
    } else if (collection === 'nodes') {
      addNodeChange(result, services, index, table, before as Node | undefined, after as Node | undefined);
    } else if (collection === 'networks') {
      result.snapshotNodes = 'all';
      for (const service of index.services()) services.add(service.id);
    }
  }
  for (const id of services) {
    for (const [key, nodes] of table.refresh(id, index.serviceOrRemoved(id))) {
      addNodes(result.ports, key, nodes);
      addNodes(result.published, id, nodes);
    }
  }
  return result;
}

function addTaskChange(
  result: AssignmentChanges,
  services: Set<string>,
  index: ClusterIndex,
  before: Task | undefined,
  after: Task | undefined,
): void {
  const { id, serviceId } = (after ?? before)!;
  services.add(serviceId);
  if (after?.desired === 'drain' && before?.desired !== 'drain') result.ackRequired = true;
  const service = index.serviceOrRemoved(serviceId);
  const [old, now] = [before && nodeTask(before, service, index), after && nodeTask(after, service, index)];
  if (sameValue(old, now)) return;
  for (const nodeId of new Set([before?.nodeId, after?.nodeId])) if (nodeId !== undefined) addTask(result, nodeId, id);
}

function addTask(result: AssignmentChanges, nodeId: string, taskId: string): void {
  const existing = result.tasks.get(nodeId);
  if (existing === undefined) result.tasks.set(nodeId, new Set([taskId]));
  else existing.add(taskId);
}

function addNodes(affected: Map<string, AffectedNodes>, key: string, nodes: AffectedNodes): void {
  const existing = affected.get(key);
  const merged =
    existing === undefined ? nodes : existing === 'all' || nodes === 'all' ? 'all' : new Set([...existing, ...nodes]);
  affected.set(key, merged);
}

/** A task's assignment includes the ports to bind, which its service declares. */
function addServiceChange(
  result: AssignmentChanges,
  index: ClusterIndex,
  before: Service | undefined,
  after: Service | undefined,
): void {
  if (after?.leaving?.some(({ revision }) => revision === index.revision)) result.ackRequired = true;
  const relevantFields = (service: Service | undefined) => service && [service.spec.ports, service.leaving];
  if (after === undefined || sameValue(relevantFields(before), relevantFields(after))) return;
  for (const task of index.tasksOfService(after.id))
    if (task.nodeId !== undefined) addTask(result, task.nodeId, task.id);
}

function addNodeChange(
  result: AssignmentChanges,
  services: Set<string>,
  index: ClusterIndex,
  table: PortTable,
  before: Node | undefined,
  after: Node | undefined,
): void {
  const { id } = (after ?? before)!;
  const peerFields = (node: Node | undefined) => node && [node.name, node.number, node.underlay];
  if (!sameValue(peerFields(before), peerFields(after))) {
    result.peers.add(id);
    if (before !== undefined && result.snapshotNodes !== 'all') result.snapshotNodes.add(id);
  }
  // Constraints and weights refer to these.
  const constraintFields = (node: Node | undefined) => node && [node.name, node.role, node.labels];
  const changed = !sameValue(constraintFields(before), constraintFields(after));
  if (changed) for (const key of table.restrictedPorts()) addNodes(result.ports, key, new Set([id]));
  const isSameReach = (before === undefined || isReachable(before)) === (after === undefined || isReachable(after));
  // A node that others do not reach does not reach them either: every port of its assignment may change.
  if (!isSameReach && after !== undefined && result.snapshotNodes !== 'all') result.snapshotNodes.add(id);
  if (before?.state === after?.state && isSameReach && !changed) return;
  for (const task of index.tasksOnNode(id)) services.add(task.serviceId);
}
