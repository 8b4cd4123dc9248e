import { netnsThing } from '../../model/kinds/things.ts';
import { taskNetns, taskVeth } from '../../model/linux-names.ts';
import type { Reconciler } from './reconciler.ts';

/** Why a task's paths are not in the kernel yet; undefined when they are and it can be started. */
export function whyPathsMissing(
  taskId: string,
  { failures, have, want }: Pick<Reconciler, 'failures' | 'have' | 'want'>,
): string | undefined {
  const netns = taskNetns(taskId);
  const veth = taskVeth(taskId);
  for (const [key, reason] of failures()) {
    if (key.includes(netns) || key.split(' ').includes(veth)) return reason;
  }
  if (have().has(netnsThing(netns))) return undefined;
  return want().has(netnsThing(netns)) ? 'it is being built' : 'this node is not in the ingress network';
}
