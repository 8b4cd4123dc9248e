import type { Op } from '../../model/kernel-state.ts';
import type { Kernel } from '../kernel.ts';

/** An operation of ours, or one that another program does on the same kernel. */
type ScriptStep = Op | { corrupt: Op };

/**
 * Executes a script on any driver, one operation at a time, and returns the outcome of each. `changeExternally` does
 * the action of another program: on the model kernel a method, on a real one the commands of `renderOp` in a shell.
 */
export async function playScript(
  kernel: Pick<Kernel, 'apply'>,
  changeExternally: (op: Op) => Promise<void> | void,
  script: readonly ScriptStep[],
): Promise<('done' | 'failed' | 'corrupted')[]> {
  const outcomes: ('done' | 'failed' | 'corrupted')[] = [];
  for (const step of script) {
    if ('corrupt' in step) {
      await changeExternally(step.corrupt);
      outcomes.push('corrupted');
    } else {
      const { failed } = await kernel.apply([step]);
      outcomes.push(failed.length === 0 ? 'done' : 'failed');
    }
  }
  return outcomes;
}
