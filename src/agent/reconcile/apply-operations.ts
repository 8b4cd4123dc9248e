import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { ApplyReport, Kernel } from '../../kernel/kernel.ts';
import type { ChangeRecord } from '../../model/change-record.ts';
import { keyOf, type Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { renderOp } from '../../model/render.ts';
import type { FailedOperations } from './failed-operations.ts';
import type { ObservedState } from './observed-state.ts';
import { type ChangeCause, changeRecord } from './operation-log.ts';

export interface ApplyOptions {
  kernel: Kernel;
  clock: Clock;
  log: Log;
  observed: Pick<ObservedState, 'settle'>;
  failed: Pick<FailedOperations, 'update'>;
  /** Of the assignment that the operations are for. */
  revision(): number;
  /** A netns was created: processes in an earlier one of that name are not in this one. */
  onNetnsCreated(netns: string): void;
  onChanged(change: Omit<ChangeRecord, 'services'>, ops: readonly Op[]): void;
}

/** Executes the operations; the objects of `keys` are then as in `goal`, except those that the kernel rejected. */
export type ApplyOperations = (
  ops: readonly Op[],
  keys: readonly string[],
  goal: ReadonlyMap<string, KernelObject>,
  cause: ChangeCause,
) => Promise<void>;

export function createApplyOperations(options: ApplyOptions): ApplyOperations {
  const { kernel, clock, log, observed, failed } = options;

  async function execute(ops: readonly Op[], cause: ChangeCause): Promise<ApplyReport['failed']> {
    if (ops.length === 0) return [];
    for (const op of ops) log.debug({ steps: renderOp(op) }, 'kernel operation');
    const startedAt = clock.monotonic();
    const { failed: rejected } = await kernel.apply(ops);
    options.onChanged(changeRecord(clock, startedAt, options.revision(), cause, ops, rejected), ops);
    for (const { error } of rejected) log.error(error.message);
    return rejected;
  }

  return async (ops, keys, goal, cause) => {
    const rejected = await execute(ops, cause);
    const rejectedKeys = new Set(rejected.map(({ op }) => keyOf(op.object)));
    const settled = keys.filter((key) => !rejectedKeys.has(key));
    observed.settle(settled, goal);
    failed.update(keys, rejected);
    for (const { verb, object } of ops) {
      if (verb === 'create' && object.kind === 'netns' && !rejectedKeys.has(keyOf(object)))
        options.onNetnsCreated(object.netns);
    }
  };
}
