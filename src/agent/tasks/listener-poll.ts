import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Listener } from '../../kernel/kernel.ts';
import { judgeReadiness, type Readiness } from './readiness.ts';
import type { TaskEntry } from './task-entry.ts';

/** Delay between two checks of a task's sockets, ms: the longest one before the task is ready, and after that. */
const POLL_INTERVAL = { first: 50, factor: 1.5, limit: { starting: 1_000, running: 10_000 } };
/** From then on a status names the ports that a task has not bound, ms. */
const READINESS_GRACE = 10_000;

export interface ListenerPollOptions {
  clock: Clock;
  log: Log;
  listeners(taskId: string): Promise<Listener[]>;
  /** After each check of a live task; `overdue` once it has taken longer than a start usually does. */
  onReadiness(entry: TaskEntry, readiness: Readiness, overdue: boolean): void;
}

/** Checks the sockets of live tasks until every target accepts every family. */
export interface ListenerPoll {
  /** Resolves after the first check; later ones follow. Takes the place of an earlier poll of the task. */
  start(entry: TaskEntry): Promise<void>;
  close(): void;
}

export function createListenerPoll({ clock, log, listeners, onReadiness }: ListenerPollOptions): ListenerPoll {
  /** The poll of each task that was started last. */
  const current = new WeakMap<TaskEntry, object>();
  let closed = false;

  async function poll(entry: TaskEntry, own: object, since: number, delay: number): Promise<void> {
    const isOver = () => closed || entry.phase !== 'live' || current.get(entry) !== own;
    try {
      const { task } = entry;
      const sockets = task.targets.length === 0 ? [] : await listeners(task.id);
      if (isOver()) return;
      const readiness = judgeReadiness(task, sockets);
      onReadiness(entry, readiness, clock.monotonic() - since >= READINESS_GRACE);
      const { problem, missing, unreachable } = readiness;
      if (problem === undefined && missing.length === 0 && unreachable === undefined) return;
    } catch (thrown) {
      log.debug({ task: entry.task.id }, `cannot read the sockets of the task: ${messageOf(thrown)}`);
    }
    if (isOver()) return;
    const limit = POLL_INTERVAL.limit[entry.status.state === 'running' ? 'running' : 'starting'];
    const next = Math.min(limit, delay * POLL_INTERVAL.factor);
    entry.cancelTimer = clock.after(delay, () => void poll(entry, own, since, next));
  }

  return {
    start(entry) {
      entry.cancelTimer?.();
      const own = {};
      current.set(entry, own);
      return poll(entry, own, clock.monotonic(), POLL_INTERVAL.first);
    },
    close() {
      closed = true;
    },
  };
}
