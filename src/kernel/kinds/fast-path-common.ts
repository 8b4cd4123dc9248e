import { isTaskNetns } from '../driver/namespaces.ts';
import type { Step } from '../driver/steps.ts';
import type { FastPathOp } from '../fast-path/fast-path-driver.ts';
import type { NetnsScan, Observer } from '../observe/observer.ts';

const ENTRY_KINDS = ['fast-path-task', 'fast-path-port', 'fast-path-peer'] as const;

/**
 * Lists filters and the entries of their maps. Which maps are the node's shows in the attached programs, so these are
 * read even when only entries are asked for. Filters in a task's netns are the task's own.
 */
export const observeFastPath: Observer = async (scan: NetnsScan) => {
  const { fastPath, netns, view, desiredHere, includes } = scan;
  if (isTaskNetns(netns)) return [];
  const filters = await fastPath.observePrograms(netns, desiredHere);
  const entries = ENTRY_KINDS.some(includes) ? await fastPath.observeEntries(netns, view) : [];
  return [...filters, ...entries].filter(({ kind }) => includes(kind));
};

/** One step of the fast path's driver. */
export function fastPathSteps({ verb, object }: FastPathOp): Step[] {
  return [{ backend: 'fast-path', netns: object.netns, op: { verb, object } }];
}
