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
  { scope: { kinds: ['netns', 'veth', 'vxlan', 'address', 'neighbour', 'fdb', 'route', 'rule'] }, period: 60_000 },
];
const TICK = 200;
/** A slice rests for this many times what it took, so that each stays under 5 % of one CPU; but no longer than the limit. */
const REST = { factor: 20, limit: 60_000 };

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
      due[index] = clock.monotonic() + Math.max(period, Math.min(took * REST.factor, REST.limit));
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
