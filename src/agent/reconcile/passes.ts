import type { Log } from '../../base/log.ts';
import { diff } from '../../diff/diff.ts';
import type { Scope } from '../../kernel/kernel.ts';
import { keyOf, type Op } from '../../model/kernel-state.ts';
import type { ApplyOperations } from './apply-operations.ts';
import type { ChangeAttribution } from './change-attribution.ts';
import type { DesiredState } from './desired-state.ts';
import type { DriftBackoff } from './drift-backoff.ts';
import type { FailedOperations } from './failed-operations.ts';
import type { ObservedState } from './observed-state.ts';
import { logFullPass, logRepairs, repairCause } from './operation-log.ts';
import { filterByScope, selectKeys, widenScope } from './scopes.ts';
import type { WorkQueue } from './work-queue.ts';

export interface PassOptions {
  desired: DesiredState;
  observed: ObservedState;
  queue: Pick<WorkQueue, 'phase' | 'advance' | 'addScope' | 'beginFullPass' | 'isFullPassRequested'>;
  failed: FailedOperations;
  attribution: ChangeAttribution;
  driftBackoff: Pick<DriftBackoff, 'allowed'>;
  applyOperations: ApplyOperations;
  log: Log;
  /** Ends flows to published ports from a time when the kernel was not as desired. */
  endUntranslatedFlows(): Promise<void>;
  /** The newest revision that the kernel holds, and the operations of it that failed. */
  onApplied(revision: number, failures: string[]): void;
}

/** The ways to make the kernel as desired. Each rejects when the kernel cannot be observed or changed at all. */
export interface Passes {
  /** Observes and repairs everything. */
  reconcileAll(): Promise<void>;
  /** Applies the changes of the desired state; nothing is observed. */
  applyChanges(): Promise<void>;
  /** Observes and repairs a part. */
  reconcileScope(scope: Scope): Promise<void>;
  /** Operations so far that repaired changes of others. */
  repairs(): number;
}

export function createPasses(options: PassOptions): Passes {
  const { desired, observed, queue, failed, attribution, driftBackoff, applyOperations, log } = options;
  let repairs = 0;

  function acknowledge(): void {
    // Changes that arrived meanwhile are applied by the next pass, which acknowledges.
    if (desired.hasChangedObjects() || queue.isFullPassRequested() || queue.phase() === 'unknown') return;
    desired.markAcknowledged();
    options.onApplied(desired.revision(), failed.messages());
  }

  /** Observes a scope, and whatever else its repair would recreate. */
  async function observeWithDependents(first: Scope): Promise<{ scope: Scope; ops: Op[] }> {
    for (let scope = first; ; ) {
      const ops = await observed.observeAndDiff(scope);
      const wider = widenScope(scope, ops, desired.objects);
      if (wider === undefined) return { scope, ops };
      scope = wider;
    }
  }

  async function repair(scope: Scope, ops: Op[]): Promise<void> {
    const due = driftBackoff.allowed(ops, failed.has);
    const repaired = due.filter(({ object }) => !failed.has(keyOf(object))); // the others are retries of our own
    const cause = repairCause(repaired, attribution.attribute(scope, ops));
    repairs += repaired.length;
    logRepairs(log, repaired, cause);
    if (ops.length === 0 && failed.all().size === 0) {
      failed.update([], []); // the kernel answers again
      return;
    }
    const goal = filterByScope(desired.objects, scope);
    const postponed = new Set(ops.filter((op) => !due.includes(op)).map(({ object }) => keyOf(object)));
    const keys = [...filterByScope(observed.have(), scope).keys(), ...goal.keys()].filter((key) => !postponed.has(key));
    await applyOperations(due, keys, goal, cause);
  }

  return {
    async reconcileAll() {
      queue.beginFullPass();
      await observed.observeAll();
      queue.advance('observedAll');
      desired.takeChanges();
      const goal = new Map(desired.objects);
      const ops = diff(observed.have(), goal);
      logFullPass(log, desired.revision(), ops);
      const cause = { why: desired.fullPassReason(), wrong: [], by: [] };
      await applyOperations(ops, [...observed.have().keys(), ...goal.keys()], goal, cause);
      await options.endUntranslatedFlows();
      desired.markApplied();
      acknowledge();
    },

    async applyChanges() {
      const keys = desired.takeChanges();
      if (keys.size > 0) {
        const goal = selectKeys(desired.objects, keys);
        const ops = diff(selectKeys(observed.have(), keys), goal);
        await applyOperations(ops, [...keys], goal, { why: 'assignment', wrong: [], by: [] });
      }
      acknowledge();
    },

    async reconcileScope(first) {
      const { scope, ops } = await observeWithDependents(first);
      if (ops.some(({ object }) => desired.isChanged(keyOf(object)))) {
        // The desired state changed during the observation: apply that first, then observe again.
        queue.addScope(scope);
        return;
      }
      const before = failed.messages().join();
      await repair(scope, ops);
      failed.retain((key) => desired.objects.has(key) || observed.have().has(key));
      if (failed.messages().join() !== before) acknowledge();
    },

    repairs: () => repairs,
  };
}
