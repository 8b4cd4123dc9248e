import type { AssignedTask } from '../../model/assignment.ts';
import type { MissingFamily, TaskReason, TaskState, TaskStatus } from '../../model/cluster.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { TaskCheckpoint } from '../../runtime/runtime.ts';
import { truncateText } from '../session/report-limits.ts';

/**
 * `waiting` for its paths or for its turn; `launching`: the runtime was asked to start it; `live`: its process runs;
 * `ended`: its process has ended or was never started.
 */
type TaskPhase = 'waiting' | 'launching' | 'live' | 'ended';

/** One task of this node. */
export interface TaskEntry {
  task: AssignedTask;
  assigned: boolean;
  phase: TaskPhase;
  status: TaskStatus;
  /** Why its last probe failed; empty once it is healthy. */
  output: string;
  /** As its sockets were last judged: targets that accept clients, and families that some of them lack. */
  accepting: number;
  missing: MissingFamily[];
  /** Of the same judgement: targets with sockets that accept no client, and what to bind. */
  unreachable?: string | undefined;
  /** Whether its paths have to be in the kernel. */
  exposed: boolean;
  stopRequested: boolean;
  /** What the next agent finds; undefined until it is started. */
  checkpoint?: TaskCheckpoint | undefined;
  /** Why it is being stopped although it should run. */
  failure?: TaskFailure;
  cancelTimer?: (() => void) | undefined;
}

export interface TaskFailure {
  reason: TaskReason;
  error: string;
}

/** What to report of a task, apart from what its entry holds. */
export type StatusDetails = Partial<Omit<TaskStatus, 'state' | 'reason'>> & { reason?: TaskReason };

export function createEntry(task: AssignedTask, assigned: boolean, now: number): TaskEntry {
  const status: TaskStatus = { state: 'assigned', message: '', error: '', since: now };
  const judged = { output: '', accepting: 0, missing: [] };
  return { task, assigned, phase: 'waiting', status, ...judged, exposed: true, stopRequested: false };
}

export function shouldRun({ assigned, task }: TaskEntry): boolean {
  return assigned && task.desired === 'running';
}

/**
 * What has to be done for a task to become what it should be, apart from launching it: `discard` what was never started,
 * `stop` the process, `remove` the files of a task that is over; undefined when there is nothing to do.
 */
export function nextAction(entry: TaskEntry): 'discard' | 'stop' | 'remove' | undefined {
  if (shouldRun(entry)) return undefined;
  switch (entry.phase) {
    case 'waiting':
      return 'discard';
    case 'launching':
      return undefined; // decided again when the runtime has answered
    case 'live':
      return entry.stopRequested ? undefined : 'stop';
    case 'ended':
      return entry.exposed || entry.assigned ? undefined : 'remove';
  }
}

/** The status to report from now on; health and allocated ports are those of the checkpoint. */
export function buildStatus(
  { task, status, checkpoint, missing }: TaskEntry,
  state: TaskState,
  details: StatusDetails,
  now: number,
): TaskStatus {
  const pid = details.pid ?? status.pid;
  const { ports = [], health = 'starting' } = checkpoint ?? {};
  const isInactive = isTerminal(state) || state === 'assigned';
  return {
    state,
    message: truncateText(details.message ?? ''),
    error: truncateText(details.error ?? ''),
    ...(details.reason === undefined ? {} : { reason: details.reason }),
    ...(pid === undefined ? {} : { pid }),
    ...(details.exitCode === undefined ? {} : { exitCode: details.exitCode }),
    ...(task.health === undefined || isInactive ? {} : { health }),
    ...(ports.length === 0 || isInactive ? {} : { ports }),
    ...(state === 'running' && missing.length > 0 ? { missing } : {}),
    since: state === status.state ? status.since : (details.since ?? now),
  };
}

/** The message and reason it has now, for a status that changes in other fields. */
export function currentDetails({ status: { message, reason } }: TaskEntry): StatusDetails {
  return { message, ...(reason === undefined ? {} : { reason: reason as TaskReason }) };
}
