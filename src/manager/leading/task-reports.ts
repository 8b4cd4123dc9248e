import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Task, TaskState, TaskStatus } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { Store, Write } from '../../store/store.ts';
import type { ClusterView } from './cluster-view.ts';
import { withEndpointJoins } from './endpoint-join.ts';
import { put, type Writer } from './writer.ts';

/** Statuses are collected this long, ms, and stored in one transaction; the first of a burst immediately. */
const BATCH_INTERVAL = 20;
/** Statuses of one transaction. */
const BATCH_SIZE = 1_000;
const RETRY_DELAY = 1_000;

/** Stores what agents report of their tasks. */
export interface TaskReports {
  /** Accepts tasks of that node only; a state never moves backwards. */
  add(nodeId: string, reports: readonly { taskId: string; status: TaskStatus }[]): void;
  /** The same as writes, for a transaction that must include them. */
  writes(nodeId: string, reports: readonly { taskId: string; status: TaskStatus }[]): Write[];
  stop(): void;
}

const STATE_ORDER: readonly TaskState[] = ['new', 'pending', 'assigned', 'starting', 'running'];
const rank = (state: TaskState) => (isTerminal(state) ? STATE_ORDER.length : STATE_ORDER.indexOf(state));

/** The status to store, or undefined when the report changes nothing. Times are the manager's, because clocks of nodes differ. */
export function nextStatus(current: TaskStatus, reported: TaskStatus, now: number): TaskStatus | undefined {
  if (isTerminal(current.state) || rank(reported.state) < rank(current.state)) return undefined;
  const health = nextHealth(current, reported);
  const next = {
    ...reported,
    ...(health === undefined ? {} : { health }),
    since: reported.state === current.state ? current.since : now,
  };
  return sameValue(next, current) ? undefined : next;
}

/** The last result is kept until the next one: an agent that was restarted has none at first. */
function nextHealth(current: TaskStatus, reported: TaskStatus): TaskStatus['health'] {
  if (reported.state !== 'running' || current.health === undefined) return reported.health;
  return reported.health === undefined || reported.health === 'starting' ? current.health : reported.health;
}

/** A task that was ended because it was unhealthy has failed, whatever its exit status. */
function withFailure(task: Task, status: TaskStatus): TaskStatus {
  if (task.failure === undefined || !isTerminal(status.state)) return status;
  return { ...status, state: 'failed', message: '', error: task.failure.error };
}

export function createTaskReports(options: {
  store: Store;
  view: ClusterView;
  writer: Writer;
  clock: Clock;
  log: Log;
}): TaskReports {
  const { store, view, writer, clock, log } = options;
  const pending = new Map<string, TaskStatus>();
  let cancelTimer: (() => void) | undefined;
  let lastCommitAt = Number.NEGATIVE_INFINITY;

  function statusWrites(task: Task | undefined, reported: TaskStatus): Write[] {
    const now = clock.now();
    const status = task && nextStatus(task.status, reported, now);
    return status === undefined
      ? []
      : [put<Task>('tasks', { ...task!, status: withFailure(task!, status), updatedAt: now })];
  }

  async function commit(): Promise<void> {
    const batch = [...pending].slice(0, BATCH_SIZE);
    const writes = batch.flatMap(([taskId, reported]) => {
      pending.delete(taskId);
      return statusWrites(view.task(taskId), reported);
    });
    try {
      await store.transact(withEndpointJoins(writes, view, clock.now()));
    } catch (thrown) {
      for (const [taskId, reported] of batch) if (!pending.has(taskId)) pending.set(taskId, reported);
      throw thrown;
    }
  }

  function schedule(wait: number): void {
    if (pending.size === 0) return;
    cancelTimer ??= clock.after(Math.max(0, wait), () => {
      lastCommitAt = clock.monotonic();
      writer.run(commit).then(
        () => {
          cancelTimer = undefined;
          schedule(lastCommitAt + BATCH_INTERVAL - clock.monotonic());
        },
        (thrown) => {
          log.error({ err: thrown }, `cannot store task states; retrying: ${messageOf(thrown)}`);
          cancelTimer = undefined;
          schedule(RETRY_DELAY);
        },
      );
    });
  }

  return {
    add(nodeId, reports) {
      for (const { taskId, status } of reports) {
        const task = view.task(taskId);
        if (task === undefined || task.nodeId !== nodeId) continue; // removed meanwhile, or of another node
        if (nextStatus(task.status, status, 0) === undefined && !pending.has(taskId)) continue;
        pending.set(taskId, status);
      }
      schedule(lastCommitAt + BATCH_INTERVAL - clock.monotonic());
    },
    writes: (nodeId, reports) =>
      reports.flatMap(({ taskId, status }) => {
        const task = view.task(taskId);
        return task?.nodeId === nodeId ? statusWrites(task, status) : [];
      }),
    stop: () => cancelTimer?.(),
  };
}
