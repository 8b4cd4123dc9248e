import { chmodSync, readdirSync, readFileSync, watch as watchDirectory, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { AssignedTask } from '../model/assignment.ts';
import { commandFlags, environmentInput, logFlags } from './command-flags.ts';
import { createEndedLogs } from './ended-logs.ts';
import { findShim } from './find-shim.ts';
import { probeTask } from './probe.ts';
import type { CommandProbeContext } from './probe-command.ts';
import type { NetworkProbeContext } from './probe-network.ts';
import type { EndedTask, LiveTask, Runtime, TaskExit, TaskLaunch } from './runtime.ts';
import { makeTaskDir, type ProcessId, readTaskFiles, writeTaskFile } from './task-dir.ts';
import { hostResolvConf, taskEnvironment } from './task-environment.ts';

/*
 /*
  * INVARIANTS
  * - task.json is on disk before anything is started, and only `remove` deletes it.
  * - Two shims never serve one directory: each start first checks for a live shim.
  * - The shim starts as root with an empty environment; the task's own is its input, used only at the last exec.
  * - Whether a task is alive is determined from its shim in the kernel (pid and start time), never from a file.
  */

/** A process held by a pidfd. */
interface HeldProcess {
  /** Signal by number; throws if the process has ended. */
  signal(signal: number): void;
  close(): void;
}

/** Operating system functions used by this driver; implemented by src/kernel/host/process.ts. */
interface ProcessSystem {
  taskShimPath(): string;
  /** Throws (ESRCH) if there is no such process, or its start time is not `startTime`. */
  watchProcess(pid: number, onExit: () => void, startTime?: number): HeldProcess;
  processStartTime(pid: number): number | undefined;
  openSocket: NetworkProbeContext['openSocket'];
  spawnProcess: CommandProbeContext['spawnProcess'];
}

export interface ProcessRuntimeOptions {
  /** Parent of the task directories. */
  directory: string;
  system: ProcessSystem;
  clock: Clock;
  log: Log;
}

interface WatchedTask {
  task: AssignedTask;
  dir: string;
  shim: HeldProcess;
  /** The same, with the paths as seen by the shim. */
  shimId: ProcessId;
  /** Environment of the command. */
  environment: Record<string, string>;
  /** Aborted when the task ends. */
  endController: AbortController;
  stopRequested: boolean;
  cancelKill: (() => void) | undefined;
}

const SIGTERM = 15;
const SIGKILL = 9;
/** Time a shim may take after its task was killed, ms. */
const SHIM_EXIT_TIMEOUT = 15_000;
/** The format of task ids in the API; cannot contain path separators. */
const TASK_ID = /^[A-Za-z0-9_-]{1,64}$/;

/** Tasks as plain processes, each under a `mesh-task` shim that survives the agent. */
export function createProcessRuntime(options: ProcessRuntimeOptions): Runtime {
  const { directory, system, clock, log } = options;
  const watched = new Map<string, WatchedTask>();
  const starting = new Map<string, Promise<LiveTask | EndedTask>>();
  const listeners: ((handleTaskEnd: EndedTask) => void)[] = [];
  const endedLogs = createEndedLogs(clock);
  let closed = false;

  const taskDirOf = (taskId: string) => {
    if (!TASK_ID.test(taskId)) throw new MeshError('invalid', `${JSON.stringify(taskId)} is not a task id`);
    return join(directory, taskId);
  };

  /** Watches a live shim; false if it has ended. */
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

  /** The state of a task directory: a running or ended task, undefined if nothing was ever started in it. */
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
    await endedLogs.release(task.id, dir);
    const found = inspectTaskDir(task, dir);
    if (found !== undefined) return found.state === 'live' ? waitForExec(task, dir) : found;
    if (launch.note !== undefined) writeTaskFile(dir, 'note.json', launch.note, { sync: false });
    writeTaskFile(dir, 'task.json', { task, environment: launch.environment, bootId: currentBootId() });
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
    const flags = ['--netns', launch.netnsPath, '--dir', dir, ...logFlags(dir, process), ...commandFlags(process)];
    const resolvConf = hostResolvConf();
    if (resolvConf !== undefined) {
      const path = join(dir, 'resolv.conf');
      writeFileSync(path, resolvConf);
      chmodSync(path, 0o644); // for every user in the task, whatever the umask is
      flags.push('--resolv-conf', path);
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

  /** Waits until the shim reports that the command runs, or ends. */
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
      // The timer covers a missing watcher: inotify instances are limited.
      const watcher = tryWatch(dir, () => {
        cancel();
        check();
      });
      check();
    });
  }

  return {
    async recover() {
      const found: (LiveTask | EndedTask)[] = [];
      for (const name of listDirectory(directory)) {
        if (!TASK_ID.test(name) || watched.has(name)) continue;
        const dir = join(directory, name);
        if (await endedLogs.load(name, dir)) continue;
        const { record } = readTaskFiles(dir);
        if (record === undefined || record.task.id !== name) {
          // The crash happened before task.json was complete: nothing was started here.
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
          log.warn({ task: taskId }, messageOf(thrown)); // a full disk must not prevent stopping a task
        }
      }
      entry.stopRequested = true;
      sendSignal(entry.shim, SIGTERM);
      // A restarted agent continues the previous grace period; a clock jump must not extend it.
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
      await endedLogs.retire(taskId, taskDirOf(taskId));
    },

    onEnd: (listener) => void listeners.push(listener),

    close() {
      if (closed) return;
      closed = true;
      for (const { shim, cancelKill, endController: over } of watched.values()) {
        cancelKill?.();
        over.abort();
        shim.close();
      }
      watched.clear();
    },
  };

  /** Kills the command; its shim then reports the end. A shim without a command is killed itself. */
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
    // Already ended; its watch reports it.
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
