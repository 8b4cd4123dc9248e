import type { Node, Service, Task } from '../model/cluster.ts';
import { isTerminal } from '../model/task-state.ts';
import { allocateAddresses } from './allocate.ts';
import { fixedHostPorts, withHostPorts } from './host-ports.ts';
import { updateConfigOf } from './rollout.ts';
import { schedule, scheduleOnNode } from './schedule.ts';
import type { Slot } from './slots.ts';
import { groupBySlot, type TaskChanges } from './task-changes.ts';

/** Assigns nodes, addresses and host ports to tasks that wait for them and are due. */
export function placeTasks(changes: TaskChanges, service: Service, slotsByNumber: ReadonlyMap<number, Slot>): void {
  const { context } = changes;
  const stopFirst = updateConfigOf(service.spec).order === 'stop-first';
  const bySlot = groupBySlot(changes.all());
  // The replacement in an update gets the place of its predecessor first: otherwise the update could wait for ever.
  const byPriority = changes.all().sort((a, b) => Number(b.takesOver ?? false) - Number(a.takesOver ?? false));
  for (const task of byPriority) {
    if (task.desired !== 'running' || task.nodeId !== undefined || isTerminal(task.status.state)) continue;
    if (task.notBefore !== undefined && task.notBefore > context.now) {
      changes.wake(task.notBefore);
      continue;
    }
    const stopping =
      stopFirst && task.takesOver ? stoppingPredecessors(changes, task, bySlot.get(task.slot) ?? []) : [];
    if (stopping.length > 0) {
      reportWaiting(
        changes,
        task,
        'new',
        `waiting for ${stopping.length} old ${stopping.length === 1 ? 'task' : 'tasks'} to stop`,
      );
      continue;
    }
    const node = slotsByNumber.get(task.slot)?.node;
    const placement =
      node === undefined ? schedule(service, changes.ownTasksOnNode, context) : scheduleOnNode(node, service, context);
    const reason = 'node' in placement ? assignNode(changes, service, task, placement.node) : placement.reason;
    if (reason !== undefined) reportWaiting(changes, task, 'pending', reason);
  }
}

/** Tasks of earlier generations that have not stopped yet, on nodes that can report it. */
function stoppingPredecessors(changes: TaskChanges, task: Task, slot: readonly Task[]): Task[] {
  return slot.filter(
    (other) =>
      other.generation !== task.generation &&
      !isTerminal(other.status.state) &&
      changes.nodes.get(other.nodeId ?? '')?.state === 'ready',
  );
}

function reportWaiting(changes: TaskChanges, task: Task, state: 'new' | 'pending', message: string): void {
  if (task.status.state === state && task.status.message === message) return;
  const since = task.status.state === state ? task.status.since : changes.context.now;
  changes.put({ ...task, status: { state, message, error: '', since } });
}

/** Assigns node, addresses and host ports to the task; returns the reason when that is not possible. */
function assignNode(changes: TaskChanges, service: Service, task: Task, node: Node): string | undefined {
  const { context } = changes;
  const addresses = allocateAddresses(node, context.networks, context.tasksOn(node.id));
  if (addresses === undefined) return `${node.name} has no free address left in its block`;
  const status = { state: 'assigned' as const, message: '', error: '', since: context.now };
  changes.put(withHostPorts({ ...task, nodeId: node.id, addresses, status }, fixedHostPorts(service.spec)));
  return undefined;
}
