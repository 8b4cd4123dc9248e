import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Listener } from '../../kernel/kernel.ts';
import { whyNotReady } from './readiness.ts';
import type { StatusDetails, TaskEntry } from './task-entry.ts';

/** First and longest delay between two checks of a task's listeners, ms. */
const POLL_INTERVAL = { first: 50, limit: 1_000, factor: 1.5 };
/** From then on a status names the ports that a task has not bound, ms. */
const READINESS_GRACE = 10_000;

export interface ListenerPollOptions {
  clock: Clock;
  log: Log;
  listeners(taskId: string): Promise<Listener[]>;
  /** Every target of the task is bound. */
  onBound(entry: TaskEntry): void;
  onWaiting(entry: TaskEntry, details: StatusDetails): void;
}

/** Waits until live tasks have bound their ports. */
export interface ListenerPoll {
  /** Resolves after the first check; later ones follow until the task is ready or not live any more. */
  start(entry: TaskEntry): Promise<void>;
  close(): void;
}

export function createListenerPoll({ clock, log, listeners, onBound, onWaiting }: ListenerPollOptions): ListenerPoll {
  let closed = false;

  /** Whether there is nothing to wait for any more. */
  async function check(entry: TaskEntry, since: number): Promise<boolean> {
    const { id, targets, addresses } = entry.task;
    const own = addresses.map(({ address }) => address);
    const problem = targets.length === 0 ? undefined : whyNotReady(targets, own, await listeners(id));
    if (closed || entry.phase !== 'live') return true;
    if (problem === undefined) {
      onBound(entry);
      return true;
    }
    const ports = targets.map(({ protocol, port }) => `${port}/${protocol}`).join(', ');
    const withinGrace = clock.monotonic() - since < READINESS_GRACE;
    onWaiting(
      entry,
      withinGrace
        ? { reason: 'WaitingForPorts', message: `waiting for ${ports}` }
        : { reason: 'PortsNotBound', message: problem },
    );
    return false;
  }

  async function poll(entry: TaskEntry, since: number, delay: number): Promise<void> {
    try {
      if (await check(entry, since)) return;
    } catch (thrown) {
      log.debug({ task: entry.task.id }, `cannot read the sockets of the task: ${messageOf(thrown)}`);
    }
    if (closed || entry.phase !== 'live') return;
    const next = Math.min(POLL_INTERVAL.limit, delay * POLL_INTERVAL.factor);
    entry.cancelTimer = clock.after(delay, () => void poll(entry, since, next));
  }

  return {
    start: (entry) => poll(entry, clock.monotonic(), POLL_INTERVAL.first),
    close() {
      closed = true;
    },
  };
}
