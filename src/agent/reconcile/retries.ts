import { backoff } from '../../base/backoff.ts';
import type { Clock } from '../../base/clock.ts';
import type { Scope } from '../../kernel/kernel.ts';
import { addScope } from './scopes.ts';

/** Delays between attempts at failed operations, ms. */
const RETRY = { base: 100, limit: 30_000 };

/** Scopes that are observed again after a growing delay, because something in them failed. */
export interface Retries {
  schedule(scope: Scope): void;
  /** Everything succeeded: the next failure begins with the shortest delay. */
  reset(): void;
  stop(): void;
}

/** `retry` is called with all scopes that were scheduled since the last time. */
export function createRetries(clock: Clock, retry: (scopes: readonly Scope[]) => void): Retries {
  const scopes: Scope[] = [];
  let attempts = 0;
  let cancel: (() => void) | undefined;
  return {
    schedule(scope) {
      addScope(scopes, scope);
      cancel ??= clock.after(backoff(attempts++, RETRY.base, RETRY.limit), () => {
        cancel = undefined;
        retry(scopes.splice(0));
      });
    },
    reset() {
      attempts = 0;
    },
    stop: () => cancel?.(),
  };
}
