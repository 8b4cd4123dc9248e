import type { Service, Task } from '../model/cluster.ts';
import type { PortSpec } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';
import { allAcknowledged, type DecisionContext } from './context.ts';
import type { TaskChanges } from './task-changes.ts';

/** Ports through which a task of the service may have connections: declared and draining ones. */
function possiblePorts(service: Service | undefined): PortSpec[] {
  if (service === undefined) return [];
  return [...service.spec.ports, ...(service.leaving ?? []).map(({ port }) => port)];
}

/**
 * Begins to end a task. A running task with published ports drains first: weight 0 on every node,
 * open connections live on. One that never ran, has no ports or is on a node that is down is stopped immediately.
 */
export function beginTermination(changes: TaskChanges, service: Service | undefined, task: Task): void {
  changes.put(terminatingTask(changes, service, task));
}

function terminatingTask({ context, nodes }: TaskChanges, service: Service | undefined, task: Task): Task {
  if (isTerminal(task.status.state)) return { ...task, desired: 'shutdown' };
  if (task.nodeId === undefined) {
    const status = { state: 'shutdown' as const, message: 'no longer needed', error: '', since: context.now };
    return { ...task, desired: 'shutdown', status };
  }
  const servesPorts = task.status.state === 'running' && possiblePorts(service).length > 0;
  if (!servesPorts || nodes.get(task.nodeId)?.state !== 'ready') return { ...task, desired: 'shutdown' };
  return {
    ...task,
    desired: 'drain',
    drainRevision: context.nextRevision,
    drainDeadline: context.now + task.stopGracePeriod,
  };
}

/**
 * The end of a drain: every ready node holds a state without new connections to the task and counts no open ones, or
 * the grace period is over.
 */
export function advanceDrain(changes: TaskChanges, service: Service | undefined, task: Task): void {
  const { context } = changes;
  const isOver = isTerminal(task.status.state) || context.now >= (task.drainDeadline ?? 0);
  if (isOver || isDrained(task, possiblePorts(service), context)) changes.put({ ...task, desired: 'shutdown' });
  else if (task.drainDeadline !== undefined) changes.wake(task.drainDeadline);
}

function isDrained(task: Task, ports: readonly PortSpec[], context: DecisionContext): boolean {
  const revision = task.drainRevision ?? 0;
  if (!allAcknowledged(revision, context)) return false;
  // A datagram has no connection to wait for.
  return ports.every(({ protocol }) => protocol === 'udp') || context.openConnections(task.id, revision) === 0;
}
