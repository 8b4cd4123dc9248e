import { isTerminal, type Node, type Service, type Task } from '../model/cluster.ts';
import { allocateAddresses } from './allocate.ts';
import { fixedHostPorts, withHostPorts } from './host-ports.ts';
import { updateOf } from './rollout.ts';
import { schedule, scheduleOn } from './schedule.ts';
import type { Slot } from './slots.ts';
import { groupBySlot, type Work } from './work.ts';

/** Nodes, addresses and host ports for tasks that wait for them and are due. */
export function placeTasks(work: Work, service: Service, wanted: ReadonlyMap<number, Slot>): void {
  const { context } = work;
  const stopFirst = updateOf(service.spec).order === 'stop-first';
  const bySlot = groupBySlot(work.all());
  // What an update took a place from has the first claim on it: otherwise the update would wait for ever.
  const inTurn = work.all().sort((a, b) => Number(b.takesOver ?? false) - Number(a.takesOver ?? false));
  for (const task of inTurn) {
    if (task.desired !== 'running' || task.nodeId !== undefined || isTerminal(task.status.state)) continue;
    if (task.notBefore !== undefined && task.notBefore > context.now) {
      work.wake(task.notBefore);
      continue;
    }
    const stopping = stopFirst && task.takesOver ? beforeIt(work, task, bySlot.get(task.slot) ?? []) : [];
    if (stopping.length > 0) {
      say(work, task, 'new', `waiting for ${stopping.length} old ${stopping.length === 1 ? 'task' : 'tasks'} to stop`);
      continue;
    }
    const node = wanted.get(task.slot)?.node;
    const placement = node === undefined ? schedule(service, work.ownOn, context) : scheduleOn(node, service, context);
    const reason = 'node' in placement ? assign(work, service, task, placement.node) : placement.reason;
    if (reason !== undefined) say(work, task, 'pending', reason);
  }
}

/** Tasks of earlier generations that have not stopped yet, on nodes that can say when they have. */
function beforeIt(work: Work, task: Task, slot: readonly Task[]): Task[] {
  return slot.filter(
    (other) =>
      other.generation !== task.generation &&
      !isTerminal(other.status.state) &&
      work.nodes.get(other.nodeId ?? '')?.state === 'ready',
  );
}

function say(work: Work, task: Task, state: 'new' | 'pending', message: string): void {
  if (task.status.state === state && task.status.message === message) return;
  const since = task.status.state === state ? task.status.since : work.context.now;
  work.put({ ...task, status: { state, message, error: '', since } });
}

/** Gives the task its node, addresses and host ports, or says why that cannot be. */
function assign(work: Work, service: Service, task: Task, node: Node): string | undefined {
  const { context } = work;
  const addresses = allocateAddresses(node, context.networks, context.tasksOn(node.id));
  if (addresses === undefined) return `${node.name} has no free address left in its block of a network`;
  const status = { state: 'assigned' as const, message: '', error: '', since: context.now };
  work.put(withHostPorts({ ...task, nodeId: node.id, addresses, status }, fixedHostPorts(service.spec)));
  return undefined;
}
