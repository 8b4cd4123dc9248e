import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Actor, Kernel, Scope } from '../../kernel/kernel.ts';
import type { ChangeRecord } from '../../model/change-record.ts';
import { condition } from '../../model/condition.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import type { Conditions } from '../conditions.ts';
import { createApplyOperations } from './apply-operations.ts';
import { createChangeAttribution } from './change-attribution.ts';
import { createDesiredState } from './desired-state.ts';
import { createDriftBackoff } from './drift-backoff.ts';
import { createFailedOperations, type FailedOperation } from './failed-operations.ts';
import { createObservedState } from './observed-state.ts';
import { createPasses } from './passes.ts';
import { createRetries } from './retries.ts';
import { withDependentKinds } from './scopes.ts';
import { createSerialWorker } from './serial-worker.ts';
import { createWorkQueue } from './work-queue.ts';

/*
 * The only part of the agent that changes the kernel: passes.ts does the work, work-queue.ts decides which is next. This
 * file connects them.
 *
 * INVARIANTS
 * - One piece of kernel work at a time, in the order of next-work.ts.
 * - Nothing is changed before `start`.
 * - A failed operation is retried with growing delays, after observing again, until it succeeds or is not desired any more.
 */

export interface Reconciler {
  /** Begins to change the kernel, with an observation of everything. */
  start(): void;
  /** Replaces the desired state; everything is observed again. */
  setDesired(want: ReadonlyMap<string, KernelObject>, revision: number): void;
  /** Changes the desired state of some objects: those only in `had` are removed. Nothing is observed. */
  patchDesired(had: readonly KernelObject[], want: readonly KernelObject[], revision: number): void;
  /** Others may have changed something in this scope: `by`, as far as known. */
  recheck(scope: Scope, by?: readonly Actor[]): void;
  /** Observes and repairs a scope when it is its turn; resolves with the ms that took. */
  audit(scope: Scope): Promise<number>;
  /** Runs a read of the kernel when it is its turn. Rejects with MeshError `unavailable` when the agent stops. */
  runExclusive<T>(work: () => Promise<T>): Promise<T>;
  want(): ReadonlyMap<string, KernelObject>;
  have(): ReadonlyMap<string, KernelObject>;
  /** Objects that are not as desired, by key. */
  failures(): ReadonlyMap<string, FailedOperation>;
  /** Operations so far that repaired changes of others. */
  repairs(): number;
  /** Resolves when the work under way is done; no more is begun. */
  stop(): Promise<void>;
}

export interface ReconcilerOptions {
  kernel: Kernel;
  clock: Clock;
  log: Log;
  conditions: Conditions;
  /** After each change: the newest revision that the kernel holds, and the operations of it that failed. */
  onApplied(revision: number, failures: string[]): void;
  /** A netns was created: processes in an earlier one of that name are not in this one. */
  onNetnsCreated(netns: string): void;
  onChanged(change: Omit<ChangeRecord, 'services'>, ops: readonly Op[]): void;
}

export function createReconciler(options: ReconcilerOptions): Reconciler {
  const { kernel, clock, log, conditions } = options;
  const desired = createDesiredState();
  const observed = createObservedState(kernel, desired.objects);
  const worker = createSerialWorker(takeNext, onPassFailed);
  const queue = createWorkQueue(log, worker.wake);
  const retries = createRetries(clock, (scopes) => {
    if (queue.phase() === 'unknown') queue.requestFullPass();
    scopes.forEach(queue.addScope);
  });
  const failed = createFailedOperations(conditions, retries);
  const attribution = createChangeAttribution();
  const driftBackoff = createDriftBackoff({ clock, conditions, recheck: queue.addScope });
  const applyOperations = createApplyOperations({ ...options, observed, failed, revision: desired.revision });
  const { onApplied } = options;
  const passes = createPasses({
    desired,
    observed,
    queue,
    failed,
    attribution,
    driftBackoff,
    applyOperations,
    log,
    endUntranslatedFlows: () => kernel.endUntranslatedFlows(),
    onApplied,
  });

  function takeNext(): (() => Promise<void>) | undefined {
    const work = queue.take(desired.hasChanges());
    switch (work?.kind) {
      case 'full':
        return passes.reconcileAll;
      case 'changes':
        return passes.applyChanges;
      case 'scope':
        return () => passes.reconcileScope(work.scope);
      case 'read':
        return work.run;
      case undefined:
        return undefined;
    }
  }

  function onPassFailed(thrown: unknown): void {
    log.error({ err: thrown }, `kernel work failed: ${messageOf(thrown)}`);
    conditions.raise(condition('KernelUnavailable', { error: messageOf(thrown) }));
    queue.advance('passFailed');
    retries.schedule({});
  }

  /** Resolves with the duration of a pass over the scope, in ms; 0 if the phase does not allow one. */
  async function timedPass(scope: Scope): Promise<number> {
    if (queue.phase() !== 'active') return 0;
    const startedAt = clock.monotonic();
    await passes.reconcileScope(scope);
    return clock.monotonic() - startedAt;
  }

  return {
    start() {
      if (queue.phase() !== 'paused') return;
      queue.advance('start');
      queue.requestFullPass();
    },
    setDesired(want, revision) {
      desired.replace(want, revision);
      queue.requestFullPass();
    },
    patchDesired(had, want, revision) {
      desired.patch(had, want, revision);
      worker.wake();
    },
    recheck(scope, by = []) {
      attribution.record(scope, by);
      const withDependents = withDependentKinds(scope);
      if (!driftBackoff.defers(withDependents)) queue.addScope(withDependents);
    },
    async audit(scope) {
      try {
        return await queue.addRead(() => timedPass(scope));
      } catch (thrown) {
        if (queue.phase() !== 'stopped') onPassFailed(thrown);
        return 0;
      }
    },
    runExclusive: queue.addRead,
    want: () => desired.objects,
    have: observed.have,
    failures: failed.all,
    repairs: passes.repairs,
    async stop() {
      queue.advance('stop');
      driftBackoff.stop();
      retries.stop();
      await worker.idle();
    },
  };
}
