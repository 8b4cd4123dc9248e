import type { TaskState } from './cluster.ts';

/** States after which a task never runs again. */
const TERMINAL_STATES: ReadonlySet<TaskState> = new Set(['complete', 'shutdown', 'failed', 'orphaned']);

export function isTerminal(state: TaskState): boolean {
  return TERMINAL_STATES.has(state);
}
