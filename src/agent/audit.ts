import type { Clock } from '../base/clock.ts';
import type { Scope } from '../kernel/kernel.ts';

/**
 * What the kernel does not tell of by itself is looked at in slices, one at a time. Periods in ms: what carries
 * traffic more often, what costs a fork or much reading less often; the last slice is for events that got lost.
 */
const SLICES: readonly { scope: Scope; period: number }[] = [
  { scope: { kinds: ['virtual-service', 'real-server', 'ipvs-timeouts'] }, period: 1_000 },
  { scope: { kinds: ['ipset', 'set-member'] }, period: 2_000 },
  { scope: { kinds: ['sysctl'] }, period: 5_000 },
  { scope: { kinds: ['chain', 'jump'] }, period: 5_000 },
  { scope: { kinds: ['netns', 'veth', 'vxlan', 'address', 'neighbour', 'fdb', 'route', 'rule'] }, period: 60_000 },
];
const TICK = 500;
/** A slice is followed by a rest of this many times what it took, so that the audit stays under 5 % of one CPU. */
const REST = 20;

export interface Audit {
  stop(): void;
}

/** Calls `check` with what is most overdue; it resolves when that was looked at and put right. */
export function startAudit(clock: Clock, check: (scope: Scope) => Promise<void>): Audit {
  const last = SLICES.map(() => clock.monotonic());
  let stopped = false;
  let cancel = clock.after(TICK, tick);

  function mostOverdue(now: number): number | undefined {
    let found: number | undefined;
    let worst = 1;
    SLICES.forEach(({ period }, index) => {
      const overdue = (now - last[index]!) / period;
      if (overdue >= worst) {
        worst = overdue;
        found = index;
      }
    });
    return found;
  }

  function tick(): void {
    const begin = clock.monotonic();
    const index = mostOverdue(begin);
    if (index === undefined) {
      again(TICK);
      return;
    }
    last[index] = begin;
    const next = () => again(Math.max(TICK, (clock.monotonic() - begin) * REST));
    check(SLICES[index]!.scope).then(next, next);
  }

  function again(delay: number): void {
    if (!stopped) cancel = clock.after(delay, tick);
  }

  return {
    stop() {
      stopped = true;
      cancel();
    },
  };
}
