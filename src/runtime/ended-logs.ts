import { readdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../base/clock.ts';
import { readEndedRecord, readTaskFiles, writeTaskFile } from './task-dir.ts';

/** Ended tasks whose logs are kept: of one service, and in all. */
const KEPT_LOGS = { perService: 5, total: 50 };

/** `log` and the older files that the shim numbers (native/task/log.c). */
const LOG_FILE = /^log(\.\d+)?$/;

/**
 * Logs of ended tasks: why a program ended is often only there. Bounded in number, because each log is bounded in size; the
 * oldest of the service, then of all, makes way. The directory of such a task has its log and `ended.json` only.
 */
export interface EndedLogs {
  /** Whether the directory is of a task that was retired before; what an earlier agent left undone is done. */
  load(taskId: string, dir: string): Promise<boolean>;
  /** Removes the files of an ended task but for its log; everything when it has no output, or cannot be marked. */
  retire(taskId: string, dir: string): Promise<void>;
  /** A task of this id starts again, as after a manager was restored from a backup. */
  release(taskId: string, dir: string): Promise<void>;
}

export function createEndedLogs(clock: Clock): EndedLogs {
  const kept = new Map<string, { dir: string; serviceId: string; at: number }>();

  async function removeOthers(dir: string): Promise<void> {
    const names = await readdir(dir);
    const others = names.filter((name) => name !== 'ended.json' && !LOG_FILE.test(name));
    await Promise.all(others.map((name) => rm(join(dir, name), { recursive: true, force: true })));
  }

  async function prune(serviceId: string): Promise<void> {
    const newestFirst = [...kept].sort(([, a], [, b]) => b.at - a.at);
    const ofService = newestFirst.filter(([, entry]) => entry.serviceId === serviceId);
    const surplus = new Map([...ofService.slice(KEPT_LOGS.perService), ...newestFirst.slice(KEPT_LOGS.total)]);
    for (const [id, { dir }] of surplus) {
      kept.delete(id);
      await rm(dir, { recursive: true, force: true });
    }
  }

  return {
    async load(taskId, dir) {
      const record = readEndedRecord(dir);
      if (record === undefined) return false;
      await removeOthers(dir);
      kept.set(taskId, { dir, ...record });
      await prune(record.serviceId);
      return true;
    },
    async retire(taskId, dir) {
      const { record } = readTaskFiles(dir);
      if (record === undefined || !(await hasOutput(dir))) return rm(dir, { recursive: true, force: true });
      const { serviceId } = record.task;
      const at = clock.now();
      try {
        writeTaskFile(dir, 'ended.json', { serviceId, at }, { sync: false });
      } catch {
        return rm(dir, { recursive: true, force: true }); // the disk is full
      }
      await removeOthers(dir);
      kept.set(taskId, { dir, serviceId, at });
      await prune(serviceId);
    },
    async release(taskId, dir) {
      kept.delete(taskId);
      await rm(join(dir, 'ended.json'), { force: true });
    },
  };
}

async function hasOutput(dir: string): Promise<boolean> {
  return stat(join(dir, 'log')).then(
    ({ size }) => size > 0,
    () => false,
  );
}
