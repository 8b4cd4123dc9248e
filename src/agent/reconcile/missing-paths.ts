import type { KernelObject } from '../../model/kinds/registry.ts';
import { netnsThing } from '../../model/kinds/things.ts';
import { taskNetns, taskVeth } from '../../model/linux-names.ts';
import type { Reconciler } from './reconciler.ts';

/** Why a task's paths are not in the kernel yet; undefined when they are and the task can be started. */
export function whyPathsMissing(
  taskId: string,
  { failures, have, want }: Pick<Reconciler, 'failures' | 'have' | 'want'>,
): string | undefined {
  const netns = taskNetns(taskId);
  for (const { object, error } of failures().values()) if (belongsToTask(object, taskId)) return error;
  if (have().has(netnsThing(netns))) return undefined;
  return want().has(netnsThing(netns)) ? 'it is being created' : 'this node is not in the ingress network';
}

/** Objects inside the task's netns, its link outside, and what uses that link. */
function belongsToTask(object: KernelObject, taskId: string): boolean {
  const netns = taskNetns(taskId);
  const link = taskVeth(taskId);
  return (
    object.netns === netns ||
    (object.kind === 'veth' && (object.peer.netns === netns || object.name === link)) ||
    ('dev' in object && object.dev === link) ||
    ('link' in object && object.link === link)
  );
}
