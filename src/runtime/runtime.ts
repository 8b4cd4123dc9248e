import type { AssignedTask } from '../model/assignment.ts';
import type { TaskStatus } from '../model/cluster.ts';
import type { HealthProbe } from '../model/spec.ts';

/** Parameters for starting one task. */
export interface TaskLaunch {
  task: AssignedTask;
  /** A path for setns(2); the task's addresses are already configured there. */
  netnsPath: string;
  /** Set on top of the task's own environment. */
  environment: Record<string, string>;
  /** Stored before the start. */
  note?: TaskCheckpoint;
}

/** State that the agent stores with a task and restores after its own restart. */
export interface TaskCheckpoint extends Pick<TaskStatus, 'ports' | 'health'> {
  /** Wall clock, ms: when the task was started. */
  startedAt: number;
  /** Output of the last failed probe; only while unhealthy. */
  output?: string;
}

/** Result of one health probe. */
export interface ProbeResult {
  ok: boolean;
  /** For people, about 4 kB at most: the failure and the output of the probe. */
  output: string;
}

/** How a task ended; exactly one of the first three is set. */
export interface TaskExit {
  code?: number;
  /** `SIGKILL`. */
  signal?: string;
  /** Why it could not be started or watched. */
  error?: string;
  /** Name of a process that it left running when it ended with code 0, as a daemon does; that process was killed. */
  left?: string;
  /** Wall clock, ms. */
  at: number;
}

export interface LiveTask {
  state: 'live';
  task: AssignedTask;
  /** Of the command itself. */
  pid: number;
  /** A stop was requested. */
  stopRequested: boolean;
  note?: TaskCheckpoint;
}

export interface EndedTask {
  state: 'ended';
  task: AssignedTask;
  exit: TaskExit;
  stopRequested: boolean;
  note?: TaskCheckpoint;
}

/**
 * Starts and watches tasks. Drivers: process (process.ts); containers later. Tasks survive the agent: `recover` finds them
 * again. A task id is started at most once until it is removed.
 */
export interface Runtime {
  /** Tasks of earlier agents, running or ended; watched from now on. */
  recover(): Promise<(LiveTask | EndedTask)[]>;
  /** Resolves when the command runs or has failed to start; for a running task it returns that task. Throws MeshError if nothing was started. */
  start(launch: TaskLaunch): Promise<LiveTask | EndedTask>;
  /** Sends the stop signal, and kills the task after `grace` ms; the end is reported through `onEnd`. */
  stop(taskId: string, grace: number): void;
  /** Replaces the stored checkpoint of a task; throws MeshError `exhausted` if it cannot be written. */
  saveCheckpoint(taskId: string, note: TaskCheckpoint): void;
  /**
   * Probes a running task in its netns, a command also with its user, environment and directory. Resolves at the latest
   * after `timeout` ms (stopping a command may take slightly longer) and never rejects. Cancelled and cleaned up when the
   * task ends or the runtime is closed.
   */
  probe(taskId: string, probe: HealthProbe, timeout: number): Promise<ProbeResult>;
  /** Deletes an ended task and its files, except the logs of the newest. A running one is rejected (`conflict`). */
  remove(taskId: string): Promise<void>;
  /** Called once for each task that ends, before or after `start` has resolved. */
  onEnd(listener: (ended: EndedTask) => void): void;
  /** Stops watching; the tasks keep running. */
  close(): void;
}
