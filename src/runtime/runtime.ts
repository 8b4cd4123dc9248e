import type { AssignedTask } from '../model/assignment.ts';
import type { TaskStatus } from '../model/cluster.ts';
import type { HealthProbe } from '../model/spec.ts';

/** What a runtime is given to start one task. */
export interface TaskLaunch {
  task: AssignedTask;
  /** A path that setns(2) takes; the task has its addresses there already. */
  netnsPath: string;
  /** Set on top of the task's own environment. */
  environment: Record<string, string>;
  /** Kept before anything is started. */
  note?: TaskCheckpoint;
}

/** What an agent wants to find again with a task after a restart of its own. */
export interface TaskCheckpoint extends Pick<TaskStatus, 'ports' | 'health'> {
  /** Wall clock, ms: when the task was started. */
  startedAt: number;
  /** What the last failed probe said; only while unhealthy. */
  output?: string;
}

/** What came of one health probe. */
export interface ProbeResult {
  ok: boolean;
  /** For people, about 4 kB at most: what went wrong and what the probe wrote. */
  output: string;
}

/** How a task ended; exactly one of the first three is set. */
export interface TaskExit {
  code?: number;
  /** `SIGKILL`. */
  signal?: string;
  /** Why it could not be started or watched, in words. */
  error?: string;
  /** Wall clock, ms. */
  at: number;
}

export interface LiveTask {
  state: 'live';
  task: AssignedTask;
  /** Of the command itself. */
  pid: number;
  /** Somebody asked for its end. */
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
 * Who starts tasks. Drivers: process (process.ts); containers later. Tasks outlive the agent: `recover` finds them
 * again. A task id is started at most once, ever, until it is removed.
 */
export interface Runtime {
  /** What earlier agents left here, running or ended; watched from now on. */
  recover(): Promise<(LiveTask | EndedTask)[]>;
  /** Resolves when the command runs or is known not to; starting what runs already finds it again. Throws MeshError when nothing was started. */
  start(launch: TaskLaunch): Promise<LiveTask | EndedTask>;
  /** Asks a task to end, and makes it end after `grace` ms; its end arrives through `onEnd`. */
  stop(taskId: string, grace: number): void;
  /** Keeps a note with a task, in place of the one before; throws MeshError `exhausted` when it cannot. */
  saveCheckpoint(taskId: string, note: TaskCheckpoint): void;
  /**
   * Probes a running task where it runs: its netns, and for a command its user, environment and directory. Resolves
   * after `timeout` ms at the latest (a command's end may take a moment more) and never rejects. Given up, with nothing
   * left of it, when the task ends or the runtime is closed.
   */
  probe(taskId: string, probe: HealthProbe, timeout: number): Promise<ProbeResult>;
  /** Forgets an ended task and its files. A live one is refused (`conflict`). */
  remove(taskId: string): Promise<void>;
  /** Called once for each task that ends, be it before `start` resolved or not. */
  onEnd(listener: (ended: EndedTask) => void): void;
  /** Stops watching; the tasks go on. */
  close(): void;
}
