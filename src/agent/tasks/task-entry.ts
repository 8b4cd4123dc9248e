import type { AssignedTask } from '../../model/assignment.ts';
import type { TaskState, TaskStatus } from '../../model/cluster.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { TaskCheckpoint } from '../../runtime/runtime.ts';
import { truncateText } from '../session/report-limits.ts';

/** One task as its keeper (tasks.ts) sees it. */
export interface TaskEntry {
  task: AssignedTask;
  assigned: boolean;
  phase: 'waiting' | 'launching' | 'live' | 'ended';
  status: TaskStatus;
  exposed: boolean;
  stopRequested: boolean;
  /** What the next agent finds; undefined until it is started. */
  checkpoint?: TaskCheckpoint | undefined;
  /** Why it is being ended although it is wanted. */
  failure?: string;
  cancel?: (() => void) | undefined;
}

export function createEntry(task: AssignedTask, assigned: boolean, now: number): TaskEntry {
  const status: TaskStatus = { state: 'assigned', message: '', error: '', since: now };
  return { task, assigned, phase: 'waiting', status, exposed: true, stopRequested: false };
}

export function shouldRun({ assigned, task }: TaskEntry): boolean {
  return assigned && task.desired === 'running';
}

/** What is to be said of a task from now on; health and picked ports are those of its note. */
export function buildStatus(
  { task, status, checkpoint }: TaskEntry,
  state: TaskState,
  details: Partial<TaskStatus>,
  now: number,
): TaskStatus {
  const pid = details.pid ?? status.pid;
  const { ports = [], health = 'starting' } = checkpoint ?? {};
  const isInactive = isTerminal(state) || state === 'assigned';
  return {
    state,
    message: truncateText(details.message ?? ''),
    error: truncateText(details.error ?? ''),
    ...(pid === undefined ? {} : { pid }),
    ...(details.exitCode === undefined ? {} : { exitCode: details.exitCode }),
    ...(task.health === undefined || isInactive ? {} : { health }),
    ...(ports.length === 0 || isInactive ? {} : { ports }),
    since: state === status.state ? status.since : (details.since ?? now),
  };
}
