import { type AssignView, assignment, servicePorts } from '../decide/assign.ts';
import { orchestrate } from '../decide/orchestrate.ts';
import type { Assignment } from '../model/assignment.ts';
import { isTerminal, type Node, type Service, type Task, type TaskState } from '../model/cluster.ts';
import { portKey } from '../model/spec.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { createDraft, type Draft } from './draft.ts';
import type { NodeReports } from './node-reports.ts';
import type { PortTable } from './port-table.ts';

/** Decisions of one service before the forecast is left as far as it is: a rolling change of very many tasks. */
const ROUNDS = 2_000;

/**
 * What nodes would be told once `changed` services are stored and everything has come to rest: the decisions, run on
 * a copy whose tasks start and stop at once.
 */
export function forecast(
  changed: readonly Service[],
  index: ClusterIndex,
  reports: NodeReports,
  table: PortTable,
  now: number,
): (node: Node) => Assignment {
  const draft = createDraft(index, reports, now);
  for (const service of changed) settle(service, draft);
  const services = new Map(changed.map((service) => [service.id, service]));
  const view: AssignView = {
    revision: index.revision,
    networks: index.networks,
    nodes: () => index.nodes(),
    node: (id) => index.node(id),
    services: () => [],
    service: (id) => services.get(id) ?? index.declared(id),
    tasksOfService: draft.tasksOfService,
    tasksOnNode: draft.tasksOnNode,
  };
  const kept = table.all().filter(({ serviceId }) => !services.has(serviceId));
  const ports = new Map(kept.map((port) => [portKey(port), port]));
  for (const service of changed) for (const port of servicePorts(service, view)) ports.set(portKey(port), port);
  return (node) => ({ ...assignment(node, view), ports: [...ports.values()] });
}

function settle(service: Service, draft: Draft): void {
  let { now } = draft.context;
  for (let round = 0; round < ROUNDS; round += 1) {
    const context = {
      ...draft.context,
      now,
      acknowledged: () => Number.POSITIVE_INFINITY,
      openConnections: () => 0,
    };
    const decided = orchestrate(service, draft.tasksOfService(service.id), context);
    draft.add(decided);
    const moved = draft.tasksOfService(service.id).flatMap((task) => live(task, draft) ?? []);
    draft.add({ put: moved, remove: [] });
    if (decided.put.length + decided.remove.length + moved.length > 0) continue;
    if (decided.wakeAt === undefined || decided.wakeAt <= now) return;
    now = decided.wakeAt;
  }
}

/** What becomes of a task on a node that does what it is told; undefined when nothing does. */
function live(task: Task, draft: Draft): Task | undefined {
  const { state } = task.status;
  const node = draft.context.nodes.find(({ id }) => id === task.nodeId);
  if (isTerminal(state) || node?.state !== 'ready') return undefined;
  const to = (next: TaskState): Task => ({ ...task, status: { ...task.status, state: next } });
  if (task.desired === 'shutdown') return to('shutdown');
  return state === 'running' ? undefined : to('running');
}
