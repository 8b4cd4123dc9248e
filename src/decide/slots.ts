import type { Node, Service } from '../model/cluster.ts';
import { matches, suits } from './schedule.ts';

/** A place for one task. Global services have one for each node, named by the node's number. */
export interface Slot {
  slot: number;
  /** The only node that will do. */
  node?: Node;
}

/** The slots a service should have a task in, lowest first. */
export function wantedSlots(service: Service, nodes: readonly Node[]): Slot[] {
  if (service.spec.mode === 'replicated') {
    return Array.from({ length: service.spec.replicas }, (_, index) => ({ slot: index + 1 }));
  }
  return nodes
    .filter((node) => suits(node, service) || holdsOn(node, service))
    .sort((a, b) => a.number - b.number)
    .map((node) => ({ slot: node.number, node }));
}

/** A paused node, or one that just went down, keeps its slot: its task is not to be forgotten. */
function holdsOn(node: Node, service: Service): boolean {
  return node.availability !== 'drain' && matches(node, service.spec.constraints);
}
