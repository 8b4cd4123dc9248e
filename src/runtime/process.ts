import { readdirSync, readFileSync, watch as watchDirectory, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { AssignedTask } from '../model/assignment.ts';
import { commandFlags, environmentInput } from './command-flags.ts';
import { findShim } from './find-shim.ts';
import { probeTask } from './probe.ts';
import type { CommandProbeContext } from './probe-command.ts';
import type { NetworkProbeContext } from './probe-network.ts';
import type { EndedTask, LiveTask, Runtime, TaskExit, TaskLaunch } from './runtime.ts';
import { makeTaskDir, type ProcessId, readTaskFiles, truncateLargeLog, writeTaskFile } from './task-dir.ts';
import { hostResolvConf, taskEnvironment } from './task-environment.ts';

/*
 * INVARIANTS
 * - task.json is on disk before anything is started, and the directory goes only with `remove`.
 * - Two shims never serve one directory: before each start it is asked whether one lives.
 * - The shim starts as root with an empty environment; the task's own is input to it, used at its last exec only.
 * - Whether a task lives is what the kernel says of its shim (pid and start time), never what a file says.
 */

/** A process held by a pidfd. */
interface HeldProcess {
  /** By number; throws when the process has ended. */
  signal(signal: number): void;
  close(): void;
}

/** What this driver needs of the operating system; src/kernel/host/process.ts has it. */
interface ProcessSystem {
  taskShimPath(): string;
  /** Throws (ESRCH) when there is no such process, or with `startTime` not that one. */
  watchProcess(pid: number, onExit: () => void, startTime?: number): HeldProcess;
  processStartTime(pid: number): number | undefined;
  openSocket: NetworkProbeContext['openSocket'];
  spawnProcess: CommandProbeContext['spawnProcess'];
}

export interface ProcessRuntimeOptions {
  /** Holds one directory a task. */
  directory: string;
  system: ProcessSystem;
  clock: Clock;
  log: Log;
}

interface WatchedTask {
  task: AssignedTask;
  dir: string;
  shim: HeldProcess;
  /** The same one, for the shim's own programs. */
  shimId: ProcessId;
  /** What the command was started with. */
  environment: Record<string, string>;
  /** Aborted when the task ends. */
  endController: AbortController;
  stopRequested: boolean;
  cancelKill: (() => void) | undefined;
}

const SIGTERM = 15;
const SIGKILL = 9;
/** How long a shim may take after its task was killed, ms. */
const SHIM_EXIT_TIMEOUT = 15_000;
/** Between two looks at the size of logs, ms. */
const LOG_CHECK_INTERVAL = 30_000;
/** As ids are on the wire; no name of a path. */
const TASK_ID = /^[A-Za-z0-9_-]{1,64}$/;

/** Tasks as plain processes, each under a `mesh-task` shim that outlives the agent. */
export function createProcessRuntime(options: ProcessRuntimeOptions): Runtime {
  const { directory, system, clock, log } = options;
  const watched = new Map<string, WatchedTask>();
  const starting = new Map<string, Promise<LiveTask | EndedTask>>();
  const listeners: ((handleTaskEnd: EndedTask) => void)[] = [];
  let cancelLogs: (() => void) | undefined;
  let closed = false;

  const taskDirOf = (taskId: string) => {
    if (!TASK_ID.test(taskId)) throw new MeshError('invalid', `${JSON.stringify(taskId)} is not a task id`);
    return join(directory, taskId);
  };

  /** Holds on to a living shim; false when it has ended. */
  function attach(task: AssignedTask, dir: string, shim: ProcessId, stopping: boolean): boolean {
    try {
      const shimProcess = system.watchProcess(shim.pid, () => ended(task.id), shim.startTime);
      const { record } = readTaskFiles(dir);
      const environment = taskEnvironment({ task, environment: record?.environment ?? {} });
      const endController = new AbortController();
      watched.set(task.id, {
        task,
        dir,
        shim: shimProcess,
        shimId: shim,
        environment,
        endController,
        stopRequested: stopping,
        cancelKill: undefined,
      });
      return true;
    } catch {
      return false;
    }
  }

  function ended(taskId: string): void {
    const entry = watched.get(taskId);
    if (entry === undefined) return;
    watched.delete(taskId);
    entry.cancelKill?.();
    entry.endController.abort();
    const exit = readExit(entry.dir);
    for (const listener of listeners)
      listener({ state: 'ended', task: entry.task, exit, stopRequested: entry.stopRequested });
  }

  function readExit(dir: string): TaskExit {
    const { exit, record } = readTaskFiles(dir);
    if (exit !== undefined) return exit;
    const error =
      record !== undefined && record.bootId !== currentBootId()
        ? 'the node was restarted while the task ran'
        : 'the shim of the task was killed; its exit status is lost';
    return { error, at: clock.now() };
  }

  /** What became of a directory: a task that lives or has ended, undefined when nothing was ever started in it. */
  function inspectTaskDir(task: AssignedTask, dir: string): LiveTask | EndedTask | undefined {
    const files = readTaskFiles(dir);
    const stopping = files.stopRequestedAt !== undefined;
    const note = files.checkpoint === undefined ? {} : { note: files.checkpoint };
    const shim =
      files.started?.shim ?? files.shim ?? findShim(dir, system.taskShimPath(), (pid) => system.processStartTime(pid));
    if (files.exit === undefined && shim !== undefined && attach(task, dir, shim, stopping)) {
      return { state: 'live', task, pid: files.started?.task.pid ?? 0, stopRequested: stopping, ...note };
    }
    const wasStarted = files.started !== undefined || files.exit !== undefined;
    return wasStarted ? { state: 'ended', task, exit: readExit(dir), stopRequested: stopping, ...note } : undefined;
  }

  async function startTask(launch: TaskLaunch): Promise<LiveTask | EndedTask> {
    const { task } = launch;
    const dir = taskDirOf(task.id);
    await makeTaskDir(dir);
    const found = inspectTaskDir(task, dir);
    if (found !== undefined) return found.state === 'live' ? waitForExec(task, dir) : found;
    if (launch.note !== undefined) writeTaskFile(dir, 'note.json', launch.note, { sync: false });
    writeTaskFile(dir, 'task.json', { task, environment: launch.environment, bootId: currentBootId() });
    await truncateLargeLog(dir);
    const shim = spawnShim(launch, dir);
    const startTime = system.processStartTime(shim);
    if (startTime !== undefined) writeTaskFile(dir, 'shim.json', { pid: shim, startTime });
    if (startTime === undefined || !attach(task, dir, { pid: shim, startTime }, false)) {
      return { state: 'ended', task, exit: readExit(dir), stopRequested: false };
    }
    return waitForExec(task, dir);
  }

  function spawnShim(launch: TaskLaunch, dir: string): number {
    const { process } = launch.task;
    const flags = ['--netns', launch.netnsPath, '--dir', dir, '--log', join(dir, 'log'), ...commandFlags(process)];
    const resolvConf = hostResolvConf();
    if (resolvConf !== undefined) {
      writeFileSync(join(dir, 'resolv.conf'), resolvConf, { mode: 0o644 });
      flags.push('--resolv-conf', join(dir, 'resolv.conf'));
    }
    const path = system.taskShimPath();
    try {
      const options = { env: {}, session: true, input: environmentInput(taskEnvironment(launch)) };
      const { watch } = system.spawnProcess(path, [...flags, '--', ...process.command], options, () => {});
      watch.unref();
      return watch.pid;
    } catch (cause) {
      throw new MeshError('internal', `cannot start ${path}: ${messageOf(cause)}`, { cause });
    }
  }

  /** Waits until the shim has told whether the command runs, or has ended. */
  function waitForExec(task: AssignedTask, dir: string): Promise<LiveTask | EndedTask> {
    return new Promise((resolve) => {
      const check = () => {
        const files = readTaskFiles(dir);
        const entry = watched.get(task.id);
        if (files.started !== undefined && entry !== undefined) {
          done({ state: 'live', task, pid: files.started.task.pid, stopRequested: entry.stopRequested });
        } else if (entry === undefined) {
          const stopping = files.stopRequestedAt !== undefined;
          done({ state: 'ended', task, exit: readExit(dir), stopRequested: stopping });
        } else cancel = clock.after(50, check);
      };
      const done = (result: LiveTask | EndedTask) => {
        cancel();
        watcher?.close();
        resolve(result);
      };
      let cancel = () => {};
      // The watcher is for speed, the timer for certainty: inotify instances are few.
      const watcher = tryWatch(dir, () => {
        cancel();
        check();
      });
      check();
    });
  }

  function scheduleLogCheck(): void {
    cancelLogs = clock.after(LOG_CHECK_INTERVAL, () => {
      for (const { dir } of watched.values()) void truncateLargeLog(dir);
      scheduleLogCheck();
    });
  }
  scheduleLogCheck();

  return {
    async recover() {
      const found: (LiveTask | EndedTask)[] = [];
      for (const name of listDirectory(directory)) {
        if (!TASK_ID.test(name) || watched.has(name)) continue;
        const dir = join(directory, name);
        const { record } = readTaskFiles(dir);
        if (record === undefined || record.task.id !== name) {
          // The crash came before task.json was whole: nothing was started here.
          await rm(dir, { recursive: true, force: true });
          continue;
        }
        const state = inspectTaskDir(record.task, dir);
        if (state === undefined) continue;
        const isExecPending = state.state === 'live' && state.pid === 0;
        found.push(isExecPending ? { ...state, ...(await waitForExec(record.task, dir)) } : state);
      }
      return found;
    },

    start(launch) {
      const { id } = launch.task;
      const running = starting.get(id);
      if (running !== undefined) return running;
      const pendingStart = startTask(launch).finally(() => starting.delete(id));
      starting.set(id, pendingStart);
      return pendingStart;
    },

    stop(taskId, grace) {
      const entry = watched.get(taskId);
      if (entry === undefined || entry.cancelKill !== undefined) return;
      const files = readTaskFiles(entry.dir);
      const requestedAt = files.stopRequestedAt ?? clock.now();
      if (files.stopRequestedAt === undefined) {
        try {
          writeTaskFile(entry.dir, 'stop.json', { at: requestedAt });
        } catch (thrown) {
          log.warn({ task: taskId }, messageOf(thrown)); // a full disk must not keep a task alive
        }
      }
      entry.stopRequested = true;
      sendSignal(entry.shim, SIGTERM);
      // A restarted agent goes on with the grace period of the one before; clocks that jump lengthen it by nothing.
      const remaining = Math.min(grace, Math.max(0, requestedAt + grace - clock.now()));
      entry.cancelKill = clock.after(remaining, () => {
        log.info({ task: taskId, grace }, 'the task did not end in its grace period: killing it');
        killTask(entry);
        entry.cancelKill = clock.after(SHIM_EXIT_TIMEOUT, () => sendSignal(entry.shim, SIGKILL));
      });
    },

    saveCheckpoint: (taskId, note) => writeTaskFile(taskDirOf(taskId), 'note.json', note, { sync: false }),

    async probe(taskId, probe, timeout) {
      const entry = watched.get(taskId);
      if (entry === undefined) return { ok: false, output: 'the task does not run' };
      const { task, shimId, environment, endController: over } = entry;
      const context = { ...system, shimPath: system.taskShimPath(), shim: shimId, environment };
      return probeTask(context, task, probe, timeout, over.signal);
    },

    async remove(taskId) {
      if (watched.has(taskId) || starting.has(taskId)) {
        throw new MeshError('conflict', `task ${taskId} still runs: stop it first`);
      }
      await rm(taskDirOf(taskId), { recursive: true, force: true });
    },

    onEnd: (listener) => void listeners.push(listener),

    close() {
      if (closed) return;
      closed = true;
      cancelLogs?.();
      for (const { shim, cancelKill, endController: over } of watched.values()) {
        cancelKill?.();
        over.abort();
        shim.close();
      }
      watched.clear();
    },
  };

  /** Kills the command and leaves its shim to tell of it; a shim without a command is killed itself. */
  function killTask(entry: WatchedTask): void {
    const task = readTaskFiles(entry.dir).started?.task;
    try {
      if (task === undefined) {
        sendSignal(entry.shim, SIGKILL);
        return;
      }
      const held = system.watchProcess(task.pid, () => {}, task.startTime);
      sendSignal(held, SIGKILL);
      held.close();
    } catch {
      // Ended by itself meanwhile.
    }
  }
}

function sendSignal(process: HeldProcess, number: number): void {
  try {
    process.signal(number);
  } catch {
    // It has ended; its watch tells.
  }
}

function tryWatch(dir: string, onChange: () => void): { close(): void } | undefined {
  try {
    const watcher = watchDirectory(dir, { persistent: false }, onChange);
    watcher.on('error', () => {});
    return watcher;
  } catch {
    return undefined;
  }
}

function listDirectory(path: string): string[] {
  try {
    return readdirSync(path);
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw new MeshError('corrupt', `cannot read ${path}: ${messageOf(thrown)}`, { cause: thrown });
  }
}

let cachedBootId: string | undefined;
function currentBootId(): string {
  cachedBootId ??= readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  return cachedBootId;
}
