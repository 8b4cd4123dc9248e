import { type AssignView, assignment } from '../decide/assign.ts';
import { byPort, portOffers, portOn } from '../decide/offers.ts';
import { orchestrate } from '../decide/orchestrate.ts';
import { joined } from '../decide/serve.ts';
import type { Assignment } from '../model/assignment.ts';
import { isTerminal, type Node, type Service, type Task } from '../model/cluster.ts';
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
  const services = new Map(changed.map((service) => [service.id, settle(service, draft)]));
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
  const added = [...services.values()].flatMap((service) => portOffers(service, view));
  const ports = [...byPort([...table.offers(new Set(services.keys())), ...added]).values()];
  return (node) => ({ ...assignment(node, view), ports: ports.flatMap((offers) => portOn(node, offers) ?? []) });
}

/** Runs the decisions about one service to their end; returns it as it then is. */
function settle(changed: Service, draft: Draft): Service {
  let service = changed;
  let { now } = draft.context;
  for (let round = 0; round < ROUNDS; round += 1) {
    const context = {
      ...draft.context,
      now,
      acknowledged: () => Number.POSITIVE_INFINITY,
      openConnections: () => 0,
    };
    const decided = orchestrate(service, draft.tasksOfService(service.id), context);
    if (decided.service !== undefined && 'put' in decided.service) service = decided.service.put;
    draft.add({ put: decided.put, remove: decided.remove });
    const moved = draft.tasksOfService(service.id).flatMap((task) => live(task, draft, now) ?? []);
    draft.add({ put: moved, remove: [] });
    if (decided.put.length + decided.remove.length + moved.length > 0) continue;
    if (decided.wakeAt === undefined || decided.wakeAt <= now) break;
    now = decided.wakeAt;
  }
  return service;
}

/** What becomes of a task on a node that does what it is told; undefined when nothing does. */
function live(task: Task, draft: Draft, now: number): Task | undefined {
  const { state } = task.status;
  const node = draft.context.nodes.find(({ id }) => id === task.nodeId);
  if (isTerminal(state) || node?.state !== 'ready') return undefined;
  if (task.desired === 'shutdown') return { ...task, status: { ...task.status, state: 'shutdown' } };
  if (state === 'running') return undefined;
  const health = task.spec.health === undefined ? {} : { health: 'healthy' as const };
  const running: Task = { ...task, status: { ...task.status, ...health, state: 'running', since: now } };
  return joined(running, draft.context.nextRevision, now);
}
