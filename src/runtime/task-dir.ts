import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { copyFile, mkdir, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError, messageOf } from '../base/errors.ts';
import type { AssignedTask } from '../model/assignment.ts';
import type { TaskCheckpoint, TaskExit } from './runtime.ts';

/*
 * Files of one task: `task.json` (what was started, written first), `shim.json` (who watches it), `stop.json` (since
 * when it is asked to end), `note.json` (what an agent wants to find again) are the agent's; `started` and `exit` are the shim's (native/task/mesh-task.c).
 */

/** A process by number and by start time (field 22 of /proc/PID/stat), so that a reused number is told apart. */
export interface ProcessId {
  pid: number;
  startTime: number;
}

interface TaskRecord {
  task: AssignedTask;
  /** What it was given on top of its own. */
  environment: Record<string, string>;
  /** /proc/sys/kernel/random/boot_id of the boot it was started in. */
  bootId: string;
}

export interface TaskFiles {
  record: TaskRecord | undefined;
  shim: ProcessId | undefined;
  started: { task: ProcessId; shim: ProcessId } | undefined;
  exit: TaskExit | undefined;
  /** Wall clock, ms. */
  stopRequestedAt: number | undefined;
  checkpoint: TaskCheckpoint | undefined;
}

/** Reads a task's directory; what is missing or cut short by a crash is undefined. */
export function readTaskFiles(dir: string): TaskFiles {
  return {
    record: readJson(dir, 'task.json', (value) => {
      const task = value['task'] as AssignedTask | undefined;
      if (typeof task?.id !== 'string' || !Array.isArray(task.process?.command)) return undefined;
      const environment = (value['environment'] ?? {}) as Record<string, string>;
      return { task, environment, bootId: String(value['bootId']) };
    }),
    shim: readJson(dir, 'shim.json', (value) => processId(value['pid'], value['startTime'])),
    started: readJson(dir, 'started', (value) => {
      const task = processId(value['pid'], value['startTime']);
      const shim = processId(value['shimPid'], value['shimStartTime']);
      return task && shim && { task, shim };
    }),
    exit: readJson(dir, 'exit', (value) => ({
      ...(typeof value['code'] === 'number' ? { code: value['code'] } : {}),
      ...(typeof value['signal'] === 'string' ? { signal: value['signal'] } : {}),
      ...(typeof value['error'] === 'string' ? { error: value['error'] } : {}),
      at: Number.isSafeInteger(value['at']) ? Number(value['at']) : Date.now(),
    })),
    stopRequestedAt: readJson(dir, 'stop.json', (value) => Number(value['at'])),
    checkpoint: readJson(dir, 'note.json', (value) =>
      typeof value['startedAt'] === 'number' ? (value as unknown as TaskCheckpoint) : undefined,
    ),
  };
}

function processId(pid: unknown, startTime: unknown): ProcessId | undefined {
  return typeof pid === 'number' && typeof startTime === 'number' ? { pid, startTime } : undefined;
}

function readJson<T>(
  dir: string,
  name: string,
  parse: (value: Record<string, unknown>) => T | undefined,
): T | undefined {
  try {
    return parse(JSON.parse(readFileSync(join(dir, name), 'utf8')));
  } catch {
    return undefined;
  }
}

/** Whole or not at all, also after a power cut, unless `sync` is false: then after the end of this process only. */
export function writeTaskFile(dir: string, name: string, value: unknown, { sync = true } = {}): void {
  const path = join(dir, name);
  try {
    const fd = openSync(`${path}.new`, 'w', 0o600);
    try {
      writeSync(fd, `${JSON.stringify(value)}\n`);
      if (sync) fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(`${path}.new`, path);
  } catch (cause) {
    throw new MeshError('exhausted', `cannot write ${path}: ${messageOf(cause)}; is the disk full or read-only?`, {
      retry: true,
      cause,
    });
  }
}

/** Makes the directory and its parents, 0700; throws `exhausted` when it cannot. */
export async function makeTaskDir(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 }).catch((cause) => {
    throw new MeshError('exhausted', `cannot make ${dir}: ${messageOf(cause)}`, { retry: true, cause });
  });
}

/** Bytes a task's log may grow to before it is moved to `log.1`; so a task holds at most about twice as much. */
const LOG_LIMIT = 10 * 1024 * 1024;

/** Moves a log that grew too big out of the way. Its writer has it open for appending, so it goes on at the start. */
export async function truncateLargeLog(dir: string): Promise<void> {
  const log = join(dir, 'log');
  try {
    if ((await stat(log)).size <= LOG_LIMIT) return;
    await copyFile(log, `${log}.1`);
  } catch {
    // No log yet, or no room for a copy; emptying it is what makes room.
  }
  await truncate(log).catch(() => {});
}
