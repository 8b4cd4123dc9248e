import type { TaskReason, TaskState } from '../../model/cluster.ts';
import type { PortSpec } from '../../model/spec.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { Task } from '../../rpc/messages.ts';
import { ageText } from './age.ts';
import { commandText, portsText } from './service.ts';
import { renderTable, truncate } from './table.ts';

export const hasEnded = (task: Task): boolean => isTerminal(task.status?.state as TaskState);

export const taskName = (task: Task): string => `${task.serviceName}.${task.slot}`;

/** Sorts by service and slot, then the newest task of a slot first. */
export function sortTasks(tasks: readonly Task[]): Task[] {
  return [...tasks].sort(
    (a, b) =>
      (a.serviceName < b.serviceName ? -1 : a.serviceName > b.serviceName ? 1 : 0) ||
      a.slot - b.slot ||
      Number(hasEnded(a)) - Number(hasEnded(b)) ||
      b.createdAt - a.createdAt ||
      (a.id < b.id ? -1 : 1),
  );
}

/** States before `running`, and `failed`: their message is the reason. */
const TRANSITIONAL_STATES = new Set(['new', 'pending', 'assigned', 'starting', 'failed']);

/** Reasons of other states that are a problem, too: the message explains it. */
const PROBLEM_REASONS: ReadonlySet<string> = new Set<TaskReason>(['Daemonized', 'PortUnreachable', 'FamilyMissing']);

/** Why a task failed, is not running yet or is not healthy; empty if there is no problem. */
export function taskProblem(task: Task): string {
  const { state = '', error = '', message = '', health, reason = '' } = task.status ?? {};
  if (error !== '') return error;
  const isUnready = state === 'running' && (health === 'starting' || health === 'unhealthy');
  return isUnready || TRANSITIONAL_STATES.has(state) || PROBLEM_REASONS.has(reason) ? message : '';
}

/** Reasons that every task has while it starts, which are no trouble yet. */
const STARTUP_REASONS: ReadonlySet<string> = new Set<TaskReason>(['Starting', 'WaitingForPorts']);

export const isStartingUp = ({ status }: Task): boolean => STARTUP_REASONS.has(status?.reason ?? '');

/** The ports of a task; a port in mode host without a number has the one its node chose. */
function taskPorts({ ports, status }: Task): PortSpec[] {
  return ports.map((port) => {
    const picked = status?.ports?.find(({ protocol, target }) => protocol === port.protocol && target === port.target);
    return port.mode !== 'host' || port.published !== undefined || picked === undefined
      ? port
      : { ...port, published: picked.published };
  });
}

/** `running (healthy)` for a task with a health check, in Docker's words. */
export function stateText({ status }: Task): string {
  const { state = 'new', health } = status ?? {};
  if (state !== 'running' || health === undefined) return state;
  return `${state} (${health === 'starting' ? 'health: starting' : health})`;
}

export function taskRow(task: Task) {
  const { status } = task;
  return {
    id: task.id,
    name: taskName(task),
    service: task.serviceName,
    slot: task.slot,
    node: task.nodeName,
    nodeId: task.nodeId ?? '',
    command: task.command,
    desired: task.desired,
    state: status?.state ?? 'new',
    health: status?.health ?? null,
    since: status?.since ?? 0,
    message: status?.message ?? '',
    error: status?.error ?? '',
    pid: status?.pid ?? null,
    reason: status?.reason ?? '',
    exitCode: status?.exitCode ?? null,
    restarts: task.restarts,
    generation: task.generation,
    addresses: task.addresses,
    ports: taskPorts(task),
    missing: status?.missing ?? [],
    createdAt: task.createdAt,
  };
}

/** The columns of `docker service ps`; `\_` marks older tasks of the same slot. */
export function renderTasks(tasks: readonly Task[], now: number): string {
  let previous = '';
  const rows = sortTasks(tasks).map((task) => {
    const name = taskName(task);
    const shown = name === previous ? ` \\_ ${name}` : name;
    previous = name;
    const { since = 0 } = task.status ?? {};
    return [
      task.id,
      shown,
      truncate(commandText(task.command), 30),
      task.nodeName,
      capitalize(task.desired),
      `${capitalize(stateText(task))} ${ageText(now - since)} ago`,
      truncate(taskProblem(task), 80),
      hasEnded(task) ? '' : portsText(taskPorts(task)),
    ];
  });
  return renderTable(['ID', 'NAME', 'COMMAND', 'NODE', 'DESIRED STATE', 'CURRENT STATE', 'ERROR', 'PORTS'], rows);
}

export const capitalize = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);
