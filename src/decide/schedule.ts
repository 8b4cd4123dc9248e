import type { Node, Service, Task } from '../model/cluster.ts';
import type { Constraint } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';
import type { DecisionContext } from './context.ts';
import { fixedHostPorts, takenHostPorts } from './host-ports.ts';
import { isAvoided, isImpaired, keepsTasksAway } from './impairment.ts';

/** The node for a task, or why there is none, as shown by `service ps`. */
export type Placement = { node: Node } | { reason: string };

interface NodeFilter {
  accepts(node: Node, service: Service): boolean;
  /** `rejected`: nodes that it does not accept. */
  explain(count: number, rejected: readonly Node[]): string;
}

/** Of the node alone; `state`: what a node that it rejects is. */
const FILTERS: (NodeFilter & { state(node: Node): string })[] = [
  { accepts: (node) => node.state === 'ready', explain: (count) => `${count} down`, state: () => 'it is down' },
  {
    accepts: (node) => node.availability === 'active',
    explain: (count) => `${count} paused or drained`,
    state: ({ availability }) => (availability === 'drain' ? 'it is drained' : 'it is paused'),
  },
  {
    accepts: (node) => !isImpaired(node),
    explain: (count, rejected) => `${count} with ${impairmentsOf(rejected).join(' or ')}`,
    state: (node) => `it has ${impairmentsOf([node]).join(' and ')}`,
  },
];

function impairmentsOf(nodes: readonly Node[]): string[] {
  return [...new Set(nodes.flatMap(({ impairments = [] }) => impairments.filter(keepsTasksAway)))].sort();
}

/**
 * Spread: the suitable node with the fewest live tasks of this service, then the fewest tasks overall, then the lowest
 * number; a node that is avoided comes after all others. `ownOn` are the service's tasks on a node as they will be, including those placed in this decision.
 */
export function schedule(
  service: Service,
  ownTasksOnNode: (nodeId: string) => readonly Task[],
  context: DecisionContext,
): Placement {
  let best: { node: Node; rank: readonly number[] } | undefined;
  const portFilter = hostPortFilter(service, context);
  for (const node of context.nodes) {
    if (!isEligible(node, service) || portFilter?.accepts(node, service) === false) continue;
    const own = ownTasksOnNode(node.id).filter((task) => isLive(task) && task.desired === 'running').length;
    const all = context.tasksOn(node.id).filter(isLive).length;
    const rank = [Number(isAvoided(node)), own, all, node.number];
    if (best === undefined || isLess(rank, best.rank)) best = { node, rank };
  }
  return best === undefined ? { reason: explain(service, context.nodes, context) } : { node: best.node };
}

/** Whether a list of numbers comes before another of the same length. */
function isLess(a: readonly number[], b: readonly number[]): boolean {
  const place = a.findIndex((value, index) => value !== b[index]);
  return place >= 0 && a[place]! < b[place]!;
}

/** As schedule, for a task that must run on this node. */
export function scheduleOnNode(node: Node, service: Service, context: DecisionContext): Placement {
  const rejecting = FILTERS.find((filter) => !filter.accepts(node, service));
  if (rejecting !== undefined) return { reason: `${node.name} accepts no new tasks: ${rejecting.state(node)}` };
  const taken = takenHostPorts(node.id, context);
  const [port] = fixedHostPorts(service.spec).filter((key) => taken.has(key));
  return port === undefined ? { node } : { reason: `host port ${port} of ${node.name} is in use by another task` };
}

/** A fixed host mode port is held by one task per node, across all services, until that task has ended. */
function hostPortFilter(service: Service, context: DecisionContext): NodeFilter | undefined {
  const required = fixedHostPorts(service.spec);
  if (required.length === 0) return undefined;
  const isFree = ({ id }: Node) => {
    const taken = takenHostPorts(id, context);
    return !required.some((key) => taken.has(key));
  };
  return { accepts: isFree, explain: (count) => `${count} with host port ${required.join(' or ')} in use` };
}

const isLive = (task: Task) => !isTerminal(task.status.state);

/** Whether tasks of this service may start on this node now, apart from its host ports. */
export function isEligible(node: Node, service: Service): boolean {
  return FILTERS.every((filter) => filter.accepts(node, service)) && matchesConstraints(node, service.spec.constraints);
}

/** Whether a node matches all constraints, whatever its state. Values compare without case, as in Swarm. */
export function matchesConstraints(node: Node, constraints: readonly Constraint[]): boolean {
  return constraints.every((constraint) => satisfies(node, constraint));
}

function satisfies(node: Node, { key, operator, value }: Constraint): boolean {
  const equal = (attribute(node, key) ?? '').toLowerCase() === value.toLowerCase();
  return operator === '==' ? equal : !equal;
}

const LABEL_PREFIX = 'node.labels.';

function attribute(node: Node, key: string): string | undefined {
  if (key.startsWith(LABEL_PREFIX)) return node.labels[key.slice(LABEL_PREFIX.length)];
  if (key === 'node.id') return node.id;
  if (key === 'node.hostname') return node.name;
  if (key === 'node.role') return node.role;
  return undefined;
}

function explain(service: Service, nodes: readonly Node[], context: DecisionContext): string {
  if (nodes.length === 0) return 'no suitable node: no node has joined yet';
  const constraints = service.spec.constraints.map(
    (constraint): NodeFilter => ({
      accepts: (node) => satisfies(node, constraint),
      explain: (count) => `${count} not ${constraint.key} ${constraint.operator} ${constraint.value}`,
    }),
  );
  const reasons: string[] = [];
  let left = [...nodes];
  for (const filter of [...FILTERS, ...constraints, hostPortFilter(service, context)]) {
    if (filter === undefined) continue;
    const rejected = left.filter((node) => !filter.accepts(node, service));
    if (rejected.length > 0) reasons.push(filter.explain(rejected.length, rejected));
    left = left.filter((node) => !rejected.includes(node));
  }
  return `no suitable node: of ${nodes.length}, ${reasons.join(', ')}`;
}
