import type { Node, Task } from '../model/cluster.ts';

/** Whether a task does what it is there for: it runs and, where it has a healthcheck, is healthy. */
export function isUp(task: Task): boolean {
  return task.status.state === 'running' && (task.hasHealthCheck === undefined || task.status.health === 'healthy');
}

/** Whether new connections may come to a task. */
export function acceptsConnections(task: Task, node: Node | undefined): boolean {
  return task.desired === 'running' && isUp(task) && node?.state === 'ready';
}

/**
 * Whether a task is on its way out of the balancers: no new connections, those it has live on. Also while it is being
 * stopped, so that what it still has to say, were it only goodbye, finds its way until it has ended.
 */
export function isDraining(task: Task, node: Node | undefined): boolean {
  if (task.status.state !== 'running' || node?.state !== 'ready') return false;
  // An unhealthy one is out before the decision about it is stored.
  return task.desired === 'running' ? task.status.health === 'unhealthy' : task.desired !== 'missing';
}

/** The order of the tasks behind a port: as they joined, the newest last, the same for everybody. */
export function byJoinOrder(a: Task, b: Task): number {
  return (a.joinedRevision ?? 0) - (b.joinedRevision ?? 0) || (a.id < b.id ? -1 : 1);
}

/** A task as it is stored when it begins to take connections with `revision`, `now` ms since the epoch. */
export function withJoinRevision(task: Task, revision: number, now: number): Task {
  return { ...task, joinedRevision: revision, joinedAt: now };
}
