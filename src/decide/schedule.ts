import type { Node, Service, Task } from '../model/cluster.ts';
import { isTerminal } from '../model/cluster.ts';
import type { Constraint } from '../model/spec.ts';
import type { Context } from './context.ts';

/** The node a task goes to, or why there is none, in words for `service ps`. */
export type Placement = { node: Node } | { reason: string };

const FILTERS: { keeps(node: Node, service: Service): boolean; explain(count: number): string }[] = [
  { keeps: (node) => node.state === 'ready', explain: (count) => `${count} down` },
  { keeps: (node) => node.availability === 'active', explain: (count) => `${count} paused or drained` },
];

/**
 * Spread: the suitable node with the fewest live tasks of this service, then the fewest tasks at all, then the lowest
 * number. `mine` are the service's live tasks as they will be, the ones placed a moment ago included.
 */
export function schedule(service: Service, mine: readonly Task[], context: Context): Placement {
  let best: { node: Node; own: number; all: number } | undefined;
  for (const node of context.nodes) {
    if (!suits(node, service)) continue;
    const own = mine.filter((task) => task.nodeId === node.id).length;
    const all = context.tasksOn(node.id).filter((task) => !isTerminal(task.status.state)).length;
    const better =
      best === undefined ||
      own < best.own ||
      (own === best.own && (all < best.all || (all === best.all && node.number < best.node.number)));
    if (better) best = { node, own, all };
  }
  return best === undefined ? { reason: explain(service, context.nodes) } : { node: best.node };
}

/** Whether tasks of this service may start on this node now. */
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

function explain(service: Service, nodes: readonly Node[]): string {
  if (nodes.length === 0) return 'no suitable node: no node has joined yet';
  const reasons: string[] = [];
  let left = [...nodes];
  for (const filter of FILTERS) {
    const kept = left.filter((node) => filter.keeps(node, service));
    if (kept.length < left.length) reasons.push(filter.explain(left.length - kept.length));
    left = kept;
  }
  for (const constraint of service.spec.constraints) {
    const kept = left.filter((node) => fulfils(node, constraint));
    const { key, operator, value } = constraint;
    if (kept.length < left.length) reasons.push(`${left.length - kept.length} not ${key} ${operator} ${value}`);
    left = kept;
  }
  return `no suitable node: of ${nodes.length}, ${reasons.join(', ')}`;
}
