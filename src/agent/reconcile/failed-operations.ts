import type { ApplyReport } from '../../kernel/kernel.ts';
import { condition } from '../../model/condition.ts';
import { keyOf } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import type { Conditions } from '../conditions.ts';
import type { Retries } from './retries.ts';
import { scopeOfOps } from './scopes.ts';

/** An object that is not as desired because the kernel rejected an operation. */
export interface FailedOperation {
  object: KernelObject;
  /** The operation as a command, and the kernel's error. */
  error: string;
}

/** Objects whose last operation failed, by key; raises the condition of the node for them and schedules retries. */
export interface FailedOperations {
  all(): ReadonlyMap<string, FailedOperation>;
  has(key: string): boolean;
  /** After an attempt at the objects of `keys`: those in `failed` failed, the others are as desired. */
  update(keys: Iterable<string>, failed: ApplyReport['failed']): void;
  /** Forgets those for which `isRelevant` is false. */
  retain(isRelevant: (key: string) => boolean): void;
  messages(): string[];
}

export function createFailedOperations(
  conditions: Conditions,
  retries: Pick<Retries, 'schedule' | 'reset'>,
): FailedOperations {
  const failures = new Map<string, FailedOperation>();

  function updateCondition(): void {
    const [first] = failures.values();
    conditions.clear('KernelUnavailable');
    if (first === undefined) conditions.clear('KernelOperationFailed');
    else conditions.raise(condition('KernelOperationFailed', { error: first.error, count: failures.size }));
  }

  return {
    all: () => failures,
    has: (key) => failures.has(key),
    update(keys, failed) {
      const failedKeys = new Set(failed.map(({ op }) => keyOf(op.object)));
      for (const key of keys) if (!failedKeys.has(key)) failures.delete(key);
      for (const { op, error } of failed) failures.set(keyOf(op.object), { object: op.object, error: error.message });
      updateCondition();
      if (failed.length > 0) retries.schedule(scopeOfOps(failed.map(({ op }) => op)));
      else if (failures.size === 0) retries.reset();
    },
    retain(isRelevant) {
      for (const key of [...failures.keys()]) if (!isRelevant(key)) failures.delete(key);
      updateCondition();
    },
    messages: () => [...failures.values()].map(({ error }) => error),
  };
}
