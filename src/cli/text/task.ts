import { portSpecFromWire } from '../../rpc/convert-spec.ts';
import type { PortSpec, Task } from '../../rpc/gen/mesh.ts';
import { ageText } from './age.ts';
import { commandText, portsText } from './service.ts';
import { renderTable, truncate } from './table.ts';

/** States of src/model/cluster.ts in which a task never runs again. */
const TERMINAL_STATES = new Set(['complete', 'shutdown', 'failed', 'orphaned']);

export const hasEnded = (task: Task): boolean => TERMINAL_STATES.has(task.status?.state ?? '');

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

/** Why a task failed, is not running yet or is not healthy; empty if there is no problem. */
export function taskProblem(task: Task): string {
  const { state = '', error = '', message = '', health } = task.status ?? {};
  if (error !== '') return error;
  const isUnready = state === 'running' && (health === 'starting' || health === 'unhealthy');
  return isUnready || TRANSITIONAL_STATES.has(state) ? message : '';
}

/** Messages of every starting task, which are no problem. */
export const isStartupMessage = (problem: string): boolean => /^(starting the process|waiting for \d.*)$/.test(problem);

/** The ports of a task; a port in mode host without a number has the one its node chose. */
function taskPorts({ ports, status }: Task): PortSpec[] {
  return ports.map((port) => {
    const picked = status?.ports.find(({ protocol, target }) => protocol === port.protocol && target === port.target);
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
    exitCode: status?.exitCode ?? null,
    restarts: task.restarts,
    generation: task.generation,
    addresses: task.addresses,
    ports: taskPorts(task).map((port) => portSpecFromWire(port, `port of ${task.serviceName}`)),
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
