import { isTerminal, type Service, type Task } from '../model/cluster.ts';
import type { PortSpec } from '../model/spec.ts';
import { allAcknowledged, type Context } from './context.ts';
import type { Work } from './work.ts';

/** Ports through which a task of the service may have connections: declared ones, and those given up. */
function portsOf(service: Service | undefined, task: Task): PortSpec[] {
  if (service === undefined) return task.spec.ports;
  return [...service.spec.ports, ...(service.leaving ?? []).map(({ port }) => port)];
}

/**
 * The first step on a task's way out. A running task with published ports drains first: weight 0 on every node,
 * open connections live on. One that never ran, has no ports or sits on a node that is down is stopped at once.
 */
export function retire(work: Work, service: Service | undefined, task: Task): void {
  work.put(left(work, service, task));
}

function left({ context, nodes }: Work, service: Service | undefined, task: Task): Task {
  if (isTerminal(task.status.state)) return { ...task, desired: 'shutdown' };
  if (task.nodeId === undefined) {
    const status = { state: 'shutdown' as const, message: 'no longer wanted', error: '', since: context.now };
    return { ...task, desired: 'shutdown', status };
  }
  const serves = task.status.state === 'running' && portsOf(service, task).length > 0;
  if (!serves || nodes.get(task.nodeId)?.state !== 'ready') return { ...task, desired: 'shutdown' };
  return {
    ...task,
    desired: 'drain',
    drainRevision: context.nextRevision,
    drainDeadline: context.now + task.spec.stopGracePeriod,
  };
}

/**
 * The end of a drain: every ready node holds a state without new connections to the task and counts no open ones, or
 * the grace period is over.
 */
export function advanceDrain(work: Work, service: Service | undefined, task: Task): void {
  const { context } = work;
  const over = isTerminal(task.status.state) || context.now >= (task.drainDeadline ?? 0);
  if (over || isDrained(task, portsOf(service, task), context)) work.put({ ...task, desired: 'shutdown' });
  else if (task.drainDeadline !== undefined) work.wake(task.drainDeadline);
}

function isDrained(task: Task, ports: readonly PortSpec[], context: Context): boolean {
  const revision = task.drainRevision ?? 0;
  if (!allAcknowledged(revision, context)) return false;
  // A datagram has no connection to wait for.
  return ports.every(({ protocol }) => protocol === 'udp') || context.openConnections(task.id, revision) === 0;
}
