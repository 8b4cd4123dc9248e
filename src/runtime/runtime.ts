import type { AssignedTask } from '../model/assignment.ts';

/** What a runtime is given to start one task. */
export interface TaskLaunch {
  task: AssignedTask;
  /** A path that setns(2) takes; the task has its addresses there already. */
  netnsPath: string;
  /** Set on top of the task's own environment. */
  environment: Record<string, string>;
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
  stopping: boolean;
}

export interface EndedTask {
  state: 'ended';
  task: AssignedTask;
  exit: TaskExit;
  stopping: boolean;
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
  /** Forgets an ended task and its files. A live one is refused (`conflict`). */
  remove(taskId: string): Promise<void>;
  /** Called once for each task that ends, be it before `start` resolved or not. */
  onEnd(listener: (ended: EndedTask) => void): void;
  /** Stops watching; the tasks go on. */
  close(): void;
}
