import type { Clock } from '../../base/clock.ts';
import { MeshError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { diff } from '../../diff/diff.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import type { Runtime } from '../../runtime/runtime.ts';
import type { History } from '../session/history.ts';
import { type ChangeCause, changeRecord } from './operation-log.ts';

/** Rounds of observing and deleting; a second one is for objects that are in use until the first is over. */
const MAX_ROUNDS = 3;

export interface ResetOptions {
  kernel: Kernel;
  runtime: Runtime;
  clock: Clock;
  log: Log;
  history: History;
  /** Kill tasks at once instead of after their grace period. */
  force: boolean;
}

/**
 * Removes everything of ours from this host: tasks, netns, links, sets, chains. Objects of others stay, and so do sysctls
 * of the host, which cannot be deleted. Throws MeshError `kernel` when something could not be removed.
 */
export async function resetNode({
  kernel,
  runtime,
  clock,
  log,
  history,
  force,
}: ResetOptions): Promise<{ tasks: number; objects: number }> {
  const tasks = await stopTasks(runtime, force);
  let objects = 0;
  let failures: string[] = [];
  for (let round = 0; round < MAX_ROUNDS; round++) {
    if (round > 0) await new Promise<void>((resolve) => void clock.after(200 * round, resolve));
    const steps = diff(await kernel.observe(), new Map());
    if (steps.length === 0) return { tasks, objects };
    const startedAt = clock.monotonic();
    const { done, failed } = await kernel.apply(steps);
    objects += done.length;
    failures = failed.map(({ error }) => error.message);
    const cause: ChangeCause = { why: 'reset', wrong: [], by: [] };
    history.add({ ...changeRecord(clock, startedAt, 0, cause, steps, failed), services: [] });
    for (const failure of failures) log.warn(failure);
  }
  const remaining = diff(await kernel.observe(), new Map());
  if (remaining.length > 0) {
    throw new MeshError(
      'kernel',
      `${remaining.length} objects could not be removed: ${failures.join('; ')}; run the reset again`,
    );
  }
  return { tasks, objects };
}

async function stopTasks(runtime: Runtime, force: boolean): Promise<number> {
  const ended = new Set<string>();
  const waiting = new Map<string, () => void>();
  runtime.onEnd(({ task }) => {
    ended.add(task.id);
    waiting.get(task.id)?.();
  });
  const found = await runtime.recover();
  await Promise.all(
    found.map(async ({ state, task }) => {
      if (state === 'live' && !ended.has(task.id)) {
        const end = new Promise<void>((resolve) => waiting.set(task.id, resolve));
        runtime.stop(task.id, force ? 0 : task.stopGracePeriod);
        await end;
      }
      await runtime.remove(task.id);
    }),
  );
  return found.length;
}
