import type { AssignedTask } from '../../model/assignment.ts';
import { taskNetns } from '../../model/linux-names.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { EndedTask, LiveTask } from '../../runtime/runtime.ts';
import type { AllocatedPort } from '../ports/allocate-ports.ts';
import type { TaskStatusReport } from '../session/messages.ts';
import { createEntry, type TaskEntry } from './task-entry.ts';
import { createTaskLife, type TaskLifeOptions } from './task-life.ts';

/*
 * INVARIANTS
 * - A task is started only when its netns and paths are in the kernel, and at most once.
 * - It is `running` only when every target is bound, so no client meets a port on which nothing listens. Its health is
 *   reported beside that; the manager acts on it, except for a task that never ran.
 * - Its paths stay while its process lives, regardless of the assignment.
 */

export interface TaskSupervisor {
  /** Takes over what earlier agents started; resolves when it is known which of them serve their ports. */
  adopt(found: readonly (LiveTask | EndedTask)[]): Promise<void>;
  /** New or changed tasks, and those that the manager has removed. */
  assign(changed: readonly AssignedTask[], removed: readonly string[]): void;
  /** All tasks; others are removed. */
  assignAll(tasks: readonly AssignedTask[]): void;
  /** Tasks whose paths have to be in the kernel. */
  exposed(): AssignedTask[];
  exposedTask(taskId: string): AssignedTask | undefined;
  /** Allocated port numbers of tasks that have not ended. */
  allocatedPorts(): AllocatedPort[];
  /** Starts waiting tasks; `missing` returns the reason why a task's paths are not in the kernel yet. */
  startReady(missing: (taskId: string) => string | undefined): void;
  /** A task that ran in an earlier netns of this name cannot be reached any more. */
  onNetnsCreated(netns: string): void;
  statuses(): TaskStatusReport[];
  /** Forgets a task that was reported as removable. */
  remove(taskId: string): void;
  close(): void;
}

export function createTaskSupervisor(options: TaskLifeOptions): TaskSupervisor {
  const { runtime, clock, log } = options;
  const entries = new Map<string, TaskEntry>();
  const life = createTaskLife(options, (taskId) => entries.get(taskId));

  function add(task: AssignedTask): TaskEntry {
    const entry = createEntry(task, true, clock.now());
    entries.set(task.id, entry);
    return entry;
  }

  runtime.onEnd((found) => {
    const entry = entries.get(found.task.id);
    // While it is launched, the result of `start` reports the end.
    if (entry?.phase === 'live') life.onEnded(entry, found);
  });

  function assign(changed: readonly AssignedTask[], removed: readonly string[]): void {
    for (const task of changed) {
      const entry = entries.get(task.id);
      if (entry === undefined) {
        life.advance(add(task));
        continue;
      }
      const before = entry.task;
      entry.task = task;
      entry.assigned = true;
      life.advance(entry);
      life.update(entry, before);
    }
    for (const id of removed) {
      const entry = entries.get(id);
      if (entry === undefined) continue;
      entry.assigned = false;
      life.advance(entry);
    }
  }

  return {
    async adopt(found) {
      await Promise.all(found.map((process) => life.adopt(add(process.task), process)));
    },
    assign,
    assignAll(tasks) {
      const ids = new Set(tasks.map(({ id }) => id));
      assign(
        tasks,
        [...entries.keys()].filter((id) => !ids.has(id)),
      );
    },
    exposed: () => [...entries.values()].filter(({ exposed }) => exposed).map(({ task }) => task),
    exposedTask(taskId) {
      const entry = entries.get(taskId);
      return entry?.exposed ? entry.task : undefined;
    },
    allocatedPorts: () =>
      [...entries.values()].flatMap(({ phase, checkpoint }) => (phase === 'ended' ? [] : (checkpoint?.ports ?? []))),
    startReady(missing) {
      for (const entry of entries.values()) {
        if (entry.phase !== 'waiting' || !entry.exposed || entry.task.desired !== 'running') continue;
        const why = missing(entry.task.id);
        if (why === undefined) void life.launch(entry);
        else life.wait(entry, why);
      }
    },
    onNetnsCreated(netns) {
      for (const entry of entries.values()) {
        if (entry.phase !== 'live' || entry.stopRequested || taskNetns(entry.task.id) !== netns) continue;
        const error = 'its network namespace was deleted by another process';
        log.error({ task: entry.task.id }, `${error}; stopping the task, the manager replaces it`);
        life.fail(entry, { reason: 'NetworkLost', error });
      }
    },
    statuses: () =>
      [...entries.values()]
        .filter(({ assigned, status }) => assigned || !isTerminal(status.state))
        .map(({ task, status }) => ({ taskId: task.id, status })),
    remove(taskId) {
      const entry = entries.get(taskId);
      if (entry?.phase === 'ended' && !entry.assigned) entries.delete(taskId);
    },
    close() {
      life.close();
      for (const entry of entries.values()) entry.cancelTimer?.();
    },
  };
}
