import { closeSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MeshError, messageOf } from '../base/errors.ts';
import type { AssignedTask } from '../model/assignment.ts';
import type { TaskCheckpoint, TaskExit } from './runtime.ts';

/*
 * Files of one task. Written by the agent: `task.json` (launch parameters, written first), `shim.json` (identity of the shim),
 * `stop.json` (when the stop was requested), `note.json` (checkpoint), `ended.json` (only the log is left, ended-logs.ts).
 * Written by the shim: `started`, `exit` and the log (native/task/mesh-task.c).
 */

/** A process by number and start time (field 22 of /proc/PID/stat), so that a reused number is detected. */
export interface ProcessId {
  pid: number;
  startTime: number;
}

interface TaskRecord {
  task: AssignedTask;
  /** Variables set on top of its own environment. */
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

/** Reads a task's directory; missing files and files truncated by a crash give undefined. */
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
      ...(typeof value['left'] === 'string' ? { left: value['left'] } : {}),
      at: Number.isSafeInteger(value['at']) ? Number(value['at']) : Date.now(),
    })),
    stopRequestedAt: readJson(dir, 'stop.json', (value) => Number(value['at'])),
    checkpoint: readJson(dir, 'note.json', (value) =>
      typeof value['startedAt'] === 'number' ? (value as unknown as TaskCheckpoint) : undefined,
    ),
  };
}

/** `ended.json`: the service of an ended task of which only the log is left, and since when (wall clock, ms). */
export function readEndedRecord(dir: string): { serviceId: string; at: number } | undefined {
  return readJson(dir, 'ended.json', ({ serviceId, at }) =>
    typeof serviceId === 'string' && typeof at === 'number' ? { serviceId, at } : undefined,
  );
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

/** Writes atomically. With `sync` it also survives a power failure, otherwise only a crash of this process. */
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

/** Creates the directory and its parents with mode 0700; throws `exhausted` if it cannot. */
export async function makeTaskDir(dir: string): Promise<void> {
  await mkdir(dir, { recursive: true, mode: 0o700 }).catch((cause) => {
    throw new MeshError('exhausted', `cannot make ${dir}: ${messageOf(cause)}`, { retry: true, cause });
  });
}
