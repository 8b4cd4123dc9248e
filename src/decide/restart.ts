import type { Task } from '../model/cluster.ts';
import type { RestartPolicy } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';

/** After this uptime, ms, a failure counts as the first again. */
const STABLE_AFTER = 30_000;
/** Delays before restarts 1, 2, 3 … of a slot that keeps failing, when the spec names none; ms. */
const RESTART_DELAYS = [0, 1_000, 2_000, 5_000, 10_000, 30_000];

/** When an ended task is replaced (wall clock, ms) and the number of that restart in a row; undefined: not at all. */
export function nextRestart(task: Task, policy: RestartPolicy): { notBefore: number; restarts: number } | undefined {
  const { condition, delay, maxAttempts, window } = policy;
  const { state, since } = task.status;
  if (!isTerminal(state) || condition === 'none') return undefined;
  // `orphaned` is caused by a node, `shutdown` by someone on the node: neither is a clean end.
  if (condition === 'on-failure' && state === 'complete') return undefined;
  const uptime = since - Math.max(task.createdAt, task.notBefore ?? 0);
  const attempts = uptime >= (window > 0 ? window : STABLE_AFTER) ? 0 : task.restarts;
  if (maxAttempts > 0 && attempts >= maxAttempts) return undefined;
  return {
    notBefore: since + (delay ?? RESTART_DELAYS[Math.min(attempts, RESTART_DELAYS.length - 1)]!),
    restarts: attempts + 1,
  };
}
