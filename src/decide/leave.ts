import { isTerminal, type Node, type Task } from '../model/cluster.ts';
import type { Context } from './context.ts';

/**
 * The first step on a task's way out. A running task with published ports drains first: weight 0 on every node,
 * open connections live on. One that never ran, has no ports or sits on a node that is down is stopped at once.
 */
export function leave(task: Task, nodes: ReadonlyMap<string, Node>, context: Context): Task {
  if (isTerminal(task.status.state)) return { ...task, desired: 'shutdown' };
  if (task.nodeId === undefined) {
    const status = { state: 'shutdown' as const, message: 'no longer wanted', error: '', since: context.now };
    return { ...task, desired: 'shutdown', status };
  }
  const serves = task.status.state === 'running' && task.spec.ports.length > 0;
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
 * the grace period is over. The same object when it is not time yet.
 */
export function advanceDrain(task: Task, context: Context): Task {
  const done = isTerminal(task.status.state) || context.now >= (task.drainDeadline ?? 0) || isDrained(task, context);
  return done ? { ...task, desired: 'shutdown' } : task;
}

function isDrained(task: Task, context: Context): boolean {
  const revision = task.drainRevision ?? 0;
  const ready = context.nodes.filter((node) => node.state === 'ready');
  if (!ready.every((node) => context.acknowledged(node.id) >= revision)) return false;
  // A datagram has no connection to wait for.
  const connected = task.spec.ports.some((port) => port.protocol !== 'udp');
  return !connected || context.openConnections(task.id) === 0;
}
