import { type AssignmentView, assignment } from '../../decide/assign.ts';
import { withJoinRevision } from '../../decide/endpoint-state.ts';
import { groupByPort, portForNode, portOffers } from '../../decide/offers.ts';
import { orchestrate } from '../../decide/orchestrate.ts';
import type { Assignment } from '../../model/assignment.ts';
import type { Node, Service, Task } from '../../model/cluster.ts';
import { taskTemplate } from '../../model/generation.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { ClusterView, NodeObservations, OfferSource } from './cluster-view.ts';
import { createStagedState, type StagedState } from './staged-state.ts';

/** Decisions per service after which the dry run stops, for example in a rolling update of very many tasks. */
const MAX_ROUNDS = 2_000;

/**
 * What nodes would be assigned once `changed` services are stored and every task has followed: the decisions, run on a
 * copy of the cluster whose tasks start and stop immediately.
 */
export function dryRun(
  changed: readonly Service[],
  cluster: ClusterView,
  observations: NodeObservations,
  offers: OfferSource,
  now: number,
): (node: Node) => Assignment {
  const staged = createStagedState(cluster, observations, now);
  const services = new Map(changed.map((service) => [service.id, settleService(service, staged)]));
  const view: AssignmentView = {
    revision: cluster.revision,
    networks: cluster.networks,
    nodes: () => cluster.nodes(),
    node: (id) => cluster.node(id),
    services: () => [],
    service: (id) => services.get(id) ?? cluster.serviceOrRemoved(id),
    tasksOfService: staged.tasksOfService,
    tasksOnNode: staged.tasksOnNode,
    template: (task) => {
      const service = services.get(task.serviceId);
      return service?.taskGeneration === task.generation ? taskTemplate(service.spec) : cluster.template(task);
    },
  };
  const added = [...services.values()].flatMap((service) => portOffers(service, view));
  const ports = [...groupByPort([...offers(new Set(services.keys())), ...added]).values()];
  return (node) => ({ ...assignment(node, view), ports: ports.flatMap((offers) => portForNode(node, offers) ?? []) });
}

/** Repeats the decisions about one service until nothing changes; returns the service as it then is. */
function settleService(changed: Service, staged: StagedState): Service {
  let service = changed;
  let { now } = staged.context;
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const context = {
      ...staged.context,
      now,
      acknowledged: () => Number.POSITIVE_INFINITY,
      openConnections: () => 0,
    };
    const decision = orchestrate(service, staged.tasksOfService(service.id), context);
    if (decision.service !== undefined && 'put' in decision.service) service = decision.service.put;
    staged.add({ put: decision.put, remove: decision.remove });
    const advanced = staged.tasksOfService(service.id).flatMap((task) => advanceTask(task, staged, now) ?? []);
    staged.add({ put: advanced, remove: [] });
    if (decision.put.length + decision.remove.length + advanced.length > 0) continue;
    if (decision.wakeAt === undefined || decision.wakeAt <= now) break;
    now = decision.wakeAt;
  }
  return service;
}

/** The next state of a task on a node that follows its assignment; undefined when it stays as it is. */
function advanceTask(task: Task, staged: StagedState, now: number): Task | undefined {
  const { state } = task.status;
  const node = staged.context.nodes.find(({ id }) => id === task.nodeId);
  if (isTerminal(state) || node?.state !== 'ready') return undefined;
  if (task.desired === 'shutdown') return { ...task, status: { ...task.status, state: 'shutdown' } };
  if (state === 'running') return undefined;
  const health = task.hasHealthCheck === undefined ? {} : { health: 'healthy' as const };
  const running: Task = { ...task, status: { ...task.status, ...health, state: 'running', since: now } };
  return withJoinRevision(running, staged.context.nextRevision, now);
}
