import type { Node, Task } from '../model/cluster.ts';
import { isReachable } from './impairment.ts';

/** Whether a task is running and, if it has a health check, healthy. */
export function isUp(task: Task): boolean {
  return task.status.state === 'running' && (task.hasHealthCheck === undefined || task.status.health === 'healthy');
}

/** Whether a task accepts new connections through its own node. */
export function acceptsLocalConnections(task: Task, node: Node | undefined): boolean {
  return task.desired === 'running' && isUp(task) && node?.state === 'ready';
}

/** Whether a task accepts new connections through every node. */
export function acceptsConnections(task: Task, node: Node | undefined): boolean {
  return acceptsLocalConnections(task, node) && node !== undefined && isReachable(node);
}

/**
 * Whether a task drains: it gets no new connections and keeps its open ones. Also while it is being stopped, so that its
 * last packets are still delivered.
 */
export function isDraining(task: Task, node: Node | undefined): boolean {
  if (task.status.state !== 'running' || node?.state !== 'ready') return false;
  // An unhealthy task drains before the decision about it is stored.
  return task.desired === 'running' ? task.status.health === 'unhealthy' : task.desired !== 'missing';
}

/** The order of the endpoints of a port: as they joined, the newest last, the same on every node. */
export function byJoinOrder(a: Task, b: Task): number {
  return (a.joinedRevision ?? 0) - (b.joinedRevision ?? 0) || (a.id < b.id ? -1 : 1);
}

/** A task as it is stored when it becomes an endpoint with `revision`, `now` ms since the epoch. */
export function withJoinRevision(task: Task, revision: number, now: number): Task {
  return { ...task, joinedRevision: revision, joinedAt: now };
}
