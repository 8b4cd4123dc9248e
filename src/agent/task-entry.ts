import type { AssignedTask } from '../model/assignment.ts';
import { isTerminal, type TaskState, type TaskStatus } from '../model/cluster.ts';
import type { TaskNote } from '../runtime/runtime.ts';
import { boundedText } from './bounds.ts';

/** One task as its keeper (tasks.ts) sees it. */
export interface Entry {
  task: AssignedTask;
  assigned: boolean;
  phase: 'waiting' | 'launching' | 'live' | 'ended';
  status: TaskStatus;
  shown: boolean;
  stopped: boolean;
  /** What the next agent finds; undefined until it is started. */
  note?: TaskNote | undefined;
  /** Why it is being ended although it is wanted. */
  broken?: string;
  cancel?: (() => void) | undefined;
}

export function newEntry(task: AssignedTask, assigned: boolean, now: number): Entry {
  const status: TaskStatus = { state: 'assigned', message: '', error: '', since: now };
  return { task, assigned, phase: 'waiting', status, shown: true, stopped: false };
}

export function isWanted({ assigned, task }: Entry): boolean {
  return assigned && task.desired === 'running';
}

/** What is to be said of a task from now on; health and picked ports are those of its note. */
export function statusOf(
  { task, status, note }: Entry,
  state: TaskState,
  rest: Partial<TaskStatus>,
  now: number,
): TaskStatus {
  const pid = rest.pid ?? status.pid;
  const { ports = [], health = 'starting' } = note ?? {};
  const over = isTerminal(state) || state === 'assigned';
  return {
    state,
    message: boundedText(rest.message ?? ''),
    error: boundedText(rest.error ?? ''),
    ...(pid === undefined ? {} : { pid }),
    ...(rest.exitCode === undefined ? {} : { exitCode: rest.exitCode }),
    ...(task.health === undefined || over ? {} : { health }),
    ...(ports.length === 0 || over ? {} : { ports }),
    since: state === status.state ? status.since : (rest.since ?? now),
  };
}
