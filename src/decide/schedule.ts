import { isTerminal, type Node, type Service, type Task } from '../model/cluster.ts';
import type { Constraint } from '../model/spec.ts';
import type { Context } from './context.ts';
import { fixedHostPorts, takenHostPorts } from './host-ports.ts';

/** The node a task goes to, or why there is none, in words for `service ps`. */
export type Placement = { node: Node } | { reason: string };

interface Filter {
  keeps(node: Node, service: Service): boolean;
  explain(count: number): string;
}

const FILTERS: Filter[] = [
  { keeps: (node) => node.state === 'ready', explain: (count) => `${count} down` },
  { keeps: (node) => node.availability === 'active', explain: (count) => `${count} paused or drained` },
];

/**
 * Spread: the suitable node with the fewest live tasks of this service, then the fewest tasks at all, then the lowest
 * number. `ownOn` are the service's tasks on a node as they will be, the ones placed a moment ago included.
 */
export function schedule(service: Service, ownOn: (nodeId: string) => readonly Task[], context: Context): Placement {
  let best: { node: Node; own: number; all: number } | undefined;
  const free = hostPortFilter(service, context);
  for (const node of context.nodes) {
    if (!suits(node, service) || free?.keeps(node, service) === false) continue;
    const own = ownOn(node.id).filter((task) => isLive(task) && task.desired === 'running').length;
    const all = context.tasksOn(node.id).filter(isLive).length;
    const better =
      best === undefined ||
      own < best.own ||
      (own === best.own && (all < best.all || (all === best.all && node.number < best.node.number)));
    if (better) best = { node, own, all };
  }
  return best === undefined ? { reason: explain(service, context.nodes, context) } : { node: best.node };
}

/** As schedule, for a task that only this node will do for. */
export function scheduleOn(node: Node, service: Service, context: Context): Placement {
  if (!suits(node, service)) return { reason: `${node.name} takes no new tasks now` };
  const taken = takenHostPorts(node.id, context);
  const [port] = fixedHostPorts(service.spec).filter((key) => taken.has(key));
  return port === undefined ? { node } : { reason: `host port ${port} of ${node.name} is taken by another task` };
}

/** One task a node for each fixed host mode port, across all services; those that are leaving hold it to their end. */
function hostPortFilter(service: Service, context: Context): Filter | undefined {
  const wanted = fixedHostPorts(service.spec);
  if (wanted.length === 0) return undefined;
  const isFree = ({ id }: Node) => {
    const taken = takenHostPorts(id, context);
    return !wanted.some((key) => taken.has(key));
  };
  return { keeps: isFree, explain: (count) => `${count} whose host port ${wanted.join(' or ')} another task has` };
}

const isLive = (task: Task) => !isTerminal(task.status.state);

/** Whether tasks of this service may start on this node now, its host ports aside. */
export function suits(node: Node, service: Service): boolean {
  return FILTERS.every((filter) => filter.keeps(node, service)) && matches(node, service.spec.constraints);
}

/** Whether a node fulfils all constraints, whatever its state. Values compare without case, as in Swarm. */
export function matches(node: Node, constraints: readonly Constraint[]): boolean {
  return constraints.every((constraint) => fulfils(node, constraint));
}

function fulfils(node: Node, { key, operator, value }: Constraint): boolean {
  const equal = (attribute(node, key) ?? '').toLowerCase() === value.toLowerCase();
  return operator === '==' ? equal : !equal;
}

const LABELS = 'node.labels.';

function attribute(node: Node, key: string): string | undefined {
  if (key.startsWith(LABELS)) return node.labels[key.slice(LABELS.length)];
  if (key === 'node.id') return node.id;
  if (key === 'node.hostname') return node.name;
  if (key === 'node.role') return node.role;
  return undefined;
}

function explain(service: Service, nodes: readonly Node[], context: Context): string {
  if (nodes.length === 0) return 'no suitable node: no node has joined yet';
  const constraints = service.spec.constraints.map(
    (constraint): Filter => ({
      keeps: (node) => fulfils(node, constraint),
      explain: (count) => `${count} not ${constraint.key} ${constraint.operator} ${constraint.value}`,
    }),
  );
  const reasons: string[] = [];
  let left = [...nodes];
  for (const filter of [...FILTERS, ...constraints, hostPortFilter(service, context)]) {
    if (filter === undefined) continue;
    const kept = left.filter((node) => filter.keeps(node, service));
    if (kept.length < left.length) reasons.push(filter.explain(left.length - kept.length));
    left = kept;
  }
  return `no suitable node: of ${nodes.length}, ${reasons.join(', ')}`;
}
