import type { Clock } from '../../base/clock.ts';
import type { Scope } from '../../kernel/kernel.ts';
import type { AuditClass } from '../../kernel/kinds/kind.ts';
import { kindsAudited, LINUX_KINDS, type LinuxKindRegistry } from '../../kernel/kinds/registry.ts';

interface AuditSlice {
  scope: Scope;
  /** Milliseconds from one scan to the next. */
  period: number;
}

/**
 * Milliseconds between two scans of the kinds of one audit class (src/kernel/kinds/kind.ts). Multiples of the shortest,
 * so that slices are due together.
 */
const PERIODS: Readonly<Record<AuditClass, number>> = { silent: 1_500, costly: 3_000, notified: 60_000 };

/** Every kind is in one slice, by the audit class of its descriptor. */
export function auditSlices(kinds: LinuxKindRegistry = LINUX_KINDS): AuditSlice[] {
  return Object.entries(PERIODS).map(([audit, period]) => ({
    scope: { kinds: kindsAudited(audit as AuditClass, kinds) },
    period,
  }));
}

/** Scans that are due within so many ms run together: waking up costs an idle daemon more than a scan. */
const COALESCE_WINDOW = 100;
/**
 * After a scan a slice waits `thrift` times its duration, which keeps it under 5 % of one CPU, but at most `latest` ms, so
 * that drift is repaired within five seconds; where a scan takes long, at least `least` times its duration.
 */
const INTERVAL = { thrift: 20, latest: 3_000, least: 4, limit: 60_000 };

function nextDelay(duration: number, period: number): number {
  const thrifty = Math.min(duration * INTERVAL.thrift, INTERVAL.latest);
  return Math.min(INTERVAL.limit, Math.max(period, thrifty, duration * INTERVAL.least));
}

export interface Audit {
  stop(): void;
}

/**
 * Scans the most overdue slice. `check` resolves when it was observed and repaired, with the duration in ms, without the
 * time it waited for its turn.
 */
export function startAudit(
  clock: Clock,
  check: (scope: Scope) => Promise<number>,
  kinds: LinuxKindRegistry = LINUX_KINDS,
): Audit {
  const startedAt = clock.monotonic();
  const slices = auditSlices(kinds).map(({ scope, period }) => ({ scope, period, due: startedAt + period }));
  let stopped = false;
  let cancel = scheduleNext();

  /** The slice that is overdue, or closest to it, in proportion to its period. */
  function findMostOverdue(now: number) {
    return slices.reduce((worst, slice) =>
      (now - slice.due) / slice.period > (now - worst.due) / worst.period ? slice : worst,
    );
  }

  async function runDueSlices(): Promise<void> {
    for (let now = clock.monotonic(); !stopped; now = clock.monotonic()) {
      const slice = findMostOverdue(now);
      if (slice.due > now + COALESCE_WINDOW) break;
      const took = await check(slice.scope).catch(() => 0);
      slice.due = clock.monotonic() + nextDelay(took, slice.period);
    }
    if (!stopped) cancel = scheduleNext();
  }

  function scheduleNext(): () => void {
    const next = Math.min(...slices.map(({ due }) => due));
    return clock.after(Math.max(0, next - clock.monotonic()), () => void runDueSlices());
  }

  return {
    stop() {
      stopped = true;
      cancel();
    },
  };
}
