import type { Clock } from '../../base/clock.ts';

/** Milliseconds between two reports; the first of a burst is sent at once. */
const BATCH_INTERVAL = 20;

/** Collects ids and passes them on in batches. */
export function createReportBatch(clock: Clock, flush: (ids: string[]) => void) {
  const pending = new Set<string>();
  let last = Number.NEGATIVE_INFINITY;
  let cancel: (() => void) | undefined;
  return {
    add(id: string): void {
      pending.add(id);
      cancel ??= clock.after(Math.max(0, last + BATCH_INTERVAL - clock.monotonic()), () => {
        cancel = undefined;
        last = clock.monotonic();
        flush([...pending]);
        pending.clear();
      });
    },
    stop: () => cancel?.(),
  };
}
