import type { Task } from '../model/cluster.ts';
import type { RestartPolicy } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';

/** A task that lived this long, in ms, has started well: the next failure counts as the first again. */
const STABLE_AFTER = 30_000;
/** Delays before restarts 1, 2, 3 … of a slot that keeps failing, when the spec names none; ms. */
const RESTART_DELAYS = [0, 1_000, 2_000, 5_000, 10_000, 30_000];

/** Whether an ended task is to be replaced, and if so from when (wall clock, ms) and as which restart in a row. */
export function nextRestart(task: Task, policy: RestartPolicy): { notBefore: number; restarts: number } | undefined {
  const { condition, delay, maxAttempts, window } = policy;
  const { state, since } = task.status;
  if (!isTerminal(state) || condition === 'none') return undefined;
  // `orphaned` is the fault of a node, `shutdown` was asked for by somebody on the node: both are no clean end.
  if (condition === 'on-failure' && state === 'complete') return undefined;
  const uptime = since - Math.max(task.createdAt, task.notBefore ?? 0);
  const attempts = uptime >= (window > 0 ? window : STABLE_AFTER) ? 0 : task.restarts;
  if (maxAttempts > 0 && attempts >= maxAttempts) return undefined;
  return {
    notBefore: since + (delay ?? RESTART_DELAYS[Math.min(attempts, RESTART_DELAYS.length - 1)]!),
    restarts: attempts + 1,
  };
}
