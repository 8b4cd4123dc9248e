import { messageOf } from '../../base/errors.ts';
import { diff } from '../../diff/diff.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { renderOp } from '../../model/render.ts';
import type { PlanResult } from '../session/messages.ts';
import { truncateSteps } from '../session/report-limits.ts';
import type { Reconciler } from './reconciler.ts';

export interface PlanResultOptions {
  kernel: Kernel;
  reconciler: Pick<Reconciler, 'runExclusive'>;
  node(): Pick<PlanResult, 'nodeId' | 'nodeName' | 'revision'>;
}

/** Observes the kernel and compares it with a desired state; the difference is listed as commands of iproute2 and ipvsadm. Never rejects. */
export function createPlanComparison({ kernel, reconciler, node }: PlanResultOptions) {
  return async (desired: () => ReadonlyMap<string, KernelObject>): Promise<PlanResult> => {
    try {
      const have = await reconciler.runExclusive(() => kernel.observe());
      return { ...node(), steps: truncateSteps(diff(have, desired()).flatMap(renderOp)), error: '' };
    } catch (thrown) {
      return { ...node(), steps: [], error: messageOf(thrown) };
    }
  };
}
