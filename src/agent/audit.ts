import type { Clock } from '../base/clock.ts';
import type { Scope } from '../kernel/kernel.ts';

interface Slice {
  scope: Scope;
  /** Milliseconds from one look to the next. */
  period: number;
}

/**
 * What the kernel does not tell of by itself is looked at in slices, one at a time: what carries traffic more often,
 * what costs a fork or much reading less often; the last slice is for events that got lost.
 */
const SLICES: readonly Slice[] = [
  { scope: { kinds: ['virtual-service', 'real-server', 'ipvs-timeouts'] }, period: 1_000 },
  { scope: { kinds: ['ipset', 'set-member', 'set-entry'] }, period: 2_000 },
  { scope: { kinds: ['sysctl'] }, period: 3_000 },
  { scope: { kinds: ['chain', 'jump'] }, period: 3_000 },
  { scope: { kinds: ['shortcut', 'shortcut-task', 'shortcut-port'] }, period: 3_000 },
  { scope: { kinds: ['netns', 'veth', 'vxlan', 'address', 'neighbour', 'fdb', 'route', 'rule'] }, period: 60_000 },
];
const TICK = 200;
/**
 * A slice rests for `thrift` times what it took, which keeps it under 5 % of one CPU, but no longer than `latest` ms, so
 * that damage lives less than five seconds; only where looking itself takes long, still `least` times that.
 */
const REST = { thrift: 20, latest: 3_000, least: 4, limit: 60_000 };

function rest(took: number, period: number): number {
  const thrifty = Math.min(took * REST.thrift, REST.latest);
  return Math.min(REST.limit, Math.max(period, thrifty, took * REST.least));
}

export interface Audit {
  stop(): void;
}

/**
 * Looks at what is most overdue. `check` resolves when that was looked at and put right, with the milliseconds it took
 * once its turn had come.
 */
export function startAudit(clock: Clock, check: (scope: Scope) => Promise<number>): Audit {
  const begun = clock.monotonic();
  const due = SLICES.map(({ period }) => begun + period);
  let stopped = false;
  let cancel = clock.after(TICK, tick);

  function mostOverdue(now: number): number | undefined {
    let found: number | undefined;
    let worst = 0;
    SLICES.forEach(({ period }, index) => {
      const overdue = (now - due[index]!) / period;
      if (overdue >= worst) {
        worst = overdue;
        found = index;
      }
    });
    return found;
  }

  function tick(): void {
    const index = mostOverdue(clock.monotonic());
    if (index === undefined) {
      again();
      return;
    }
    const { scope, period } = SLICES[index]!;
    const next = (took: number) => {
      due[index] = clock.monotonic() + rest(took, period);
      again();
    };
    check(scope).then(next, () => next(0));
  }

  function again(): void {
    if (!stopped) cancel = clock.after(TICK, tick);
  }

  return {
    stop() {
      stopped = true;
      cancel();
    },
  };
}
