import { nodeTask } from '../decide/assign.ts';
import type { Node, Service, Task } from '../model/cluster.ts';
import { sameValue } from '../model/equality.ts';
import type { Change } from '../store/store.ts';
import type { ClusterIndex } from './cluster-index.ts';
import type { Affected, PortTable } from './port-table.ts';

/** What one commit changes in the assignments of nodes, by key: the values are looked up when they are sent. */
export interface Effects {
  revision: number;
  /** Nodes that other nodes see differently, or no more. */
  peers: Set<string>;
  /** Keys of published ports, and the nodes they changed for. */
  ports: Map<string, Affected>;
  /** Task ids by node. */
  tasks: Map<string, Set<string>>;
  /** Nodes that need a whole new assignment. */
  whole: Set<string> | 'all';
  /** Every node shall acknowledge this revision, even if nothing else changes for it. */
  acknowledge: boolean;
}

/** Call after the index took the commit in. Costs what the commit changed: O(tasks of the services it touches). */
export function effectsOf(changes: readonly Change[], index: ClusterIndex, table: PortTable): Effects {
  const effects: Effects = {
    revision: index.revision,
    peers: new Set(),
    ports: new Map(),
    tasks: new Map(),
    whole: new Set(),
    acknowledge: false,
  };
  const services = new Set<string>();
  for (const { collection, before, after } of changes) {
    if (collection === 'tasks') ofTask(effects, services, index, before as Task | undefined, after as Task | undefined);
    else if (collection === 'services') {
      services.add((after ?? before)!.id);
      ofService(effects, index, before as Service | undefined, after as Service | undefined);
    } else if (collection === 'nodes') {
      ofNode(effects, services, index, table, before as Node | undefined, after as Node | undefined);
    } else if (collection === 'networks') {
      effects.whole = 'all';
      for (const service of index.services()) services.add(service.id);
    }
  }
  for (const id of services) {
    for (const [key, nodes] of table.refresh(id, index.declared(id))) touchPort(effects, key, nodes);
  }
  return effects;
}

function ofTask(
  effects: Effects,
  services: Set<string>,
  index: ClusterIndex,
  before: Task | undefined,
  after: Task | undefined,
): void {
  const { id, serviceId } = (after ?? before)!;
  services.add(serviceId);
  if (after?.desired === 'drain' && before?.desired !== 'drain') effects.acknowledge = true;
  const service = index.declared(serviceId);
  const [old, now] = [before && nodeTask(before, service), after && nodeTask(after, service)];
  if (sameValue(old, now)) return;
  for (const nodeId of new Set([before?.nodeId, after?.nodeId]))
    if (nodeId !== undefined) touchTask(effects, nodeId, id);
}

function touchTask(effects: Effects, nodeId: string, taskId: string): void {
  const known = effects.tasks.get(nodeId);
  if (known === undefined) effects.tasks.set(nodeId, new Set([taskId]));
  else known.add(taskId);
}

function touchPort(effects: Effects, key: string, nodes: Affected): void {
  const known = effects.ports.get(key);
  const both = known === undefined ? nodes : known === 'all' || nodes === 'all' ? 'all' : new Set([...known, ...nodes]);
  effects.ports.set(key, both);
}

/** Tasks are told which ports they have to bind, and that is the service's matter. */
function ofService(
  effects: Effects,
  index: ClusterIndex,
  before: Service | undefined,
  after: Service | undefined,
): void {
  if (after?.leaving?.some(({ revision }) => revision === index.revision)) effects.acknowledge = true;
  const told = (service: Service | undefined) => service && [service.spec.ports, service.leaving];
  if (after === undefined || sameValue(told(before), told(after))) return;
  for (const task of index.tasksOfService(after.id))
    if (task.nodeId !== undefined) touchTask(effects, task.nodeId, task.id);
}

function ofNode(
  effects: Effects,
  services: Set<string>,
  index: ClusterIndex,
  table: PortTable,
  before: Node | undefined,
  after: Node | undefined,
): void {
  const { id } = (after ?? before)!;
  const seen = (node: Node | undefined) => node && [node.name, node.number, node.underlay];
  if (!sameValue(seen(before), seen(after))) {
    effects.peers.add(id);
    if (before !== undefined && effects.whole !== 'all') effects.whole.add(id);
  }
  // Constraints and weights speak of these.
  const about = (node: Node | undefined) => node && [node.name, node.role, node.labels];
  const changed = !sameValue(about(before), about(after));
  if (changed) for (const key of table.selective()) touchPort(effects, key, new Set([id]));
  if (before?.state === after?.state && !changed) return;
  for (const task of index.tasksOnNode(id)) services.add(task.serviceId);
}
