import type { Clock } from '../../base/clock.ts';
import type { Scope } from '../../kernel/kernel.ts';

interface AuditSlice {
  scope: Scope;
  /** Milliseconds from one scan to the next. */
  period: number;
}

/**
 * What the kernel does not tell of by itself is looked at in slices, one at a time: what carries traffic more often,
 * what costs a fork or much reading less often; the last slice is for events that got lost. Periods are multiples of
 * the shortest, so that slices come due together.
 */
const SLICES: readonly AuditSlice[] = [
  { scope: { kinds: ['virtual-service', 'real-server', 'ipvs-timeouts'] }, period: 1_500 },
  {
    scope: {
      kinds: [
        'ipset',
        'set-member',
        'set-entry',
        'sysctl',
        'chain',
        'jump',
        'shortcut',
        'shortcut-task',
        'shortcut-port',
        'shortcut-peer',
      ],
    },
    period: 3_000,
  },
  { scope: { kinds: ['netns', 'veth', 'vxlan', 'address', 'neighbour', 'fdb', 'route', 'rule'] }, period: 60_000 },
];
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
export function startAudit(clock: Clock, check: (scope: Scope) => Promise<number>): Audit {
  const startedAt = clock.monotonic();
  const slices = SLICES.map(({ scope, period }) => ({ scope, period, due: startedAt + period }));
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
