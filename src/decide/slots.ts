import type { Node, Service } from '../model/cluster.ts';
import { isEligible, matchesConstraints } from './schedule.ts';

/** A place for one task. Global services have one for each node, named by the node's number. */
export interface Slot {
  slot: number;
  /** The only suitable node. */
  node?: Node;
}

/** The slots a service should have a task in, lowest first. */
export function desiredSlots(service: Service, nodes: readonly Node[]): Slot[] {
  if (service.spec.mode === 'replicated') {
    return Array.from({ length: service.spec.replicas }, (_, index) => ({ slot: index + 1 }));
  }
  return nodes
    .filter((node) => isEligible(node, service) || keepsSlot(node, service))
    .sort((a, b) => a.number - b.number)
    .map((node) => ({ slot: node.number, node }));
}

/** A paused node, or one that is down, keeps its slot: its task is not removed. */
function keepsSlot(node: Node, service: Service): boolean {
  return node.availability !== 'drain' && matchesConstraints(node, service.spec.constraints);
}
