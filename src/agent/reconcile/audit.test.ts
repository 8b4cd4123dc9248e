import { expect, it } from 'vitest';
import type { Clock } from '../../base/clock.ts';
import { startAudit } from './audit.ts';

/** A clock that the test advances. */
function manualClock() {
  let now = 0;
  const timers: { at: number; callback: () => void }[] = [];
  let wakes = 0;
  const clock: Clock = {
    now: () => now,
    monotonic: () => now,
    after(delay, callback) {
      const timer = { at: now + delay, callback };
      timers.push(timer);
      return () => void (timers.includes(timer) && timers.splice(timers.indexOf(timer), 1));
    },
  };
  const pass = async (until: number) => {
    for (;;) {
      timers.sort((a, b) => a.at - b.at);
      const [next] = timers;
      if (next === undefined || next.at > until) break;
      timers.shift();
      now = Math.max(now, next.at);
      wakes += 1;
      next.callback();
      for (let turn = 0; turn < 50; turn++) await Promise.resolve();
    }
    now = until;
  };
  return { clock, pass, wakes: () => wakes };
}

/** Scans each kind; a scan of a kind takes this many ms. */
async function countScans(minutes: number, took: (kind: string) => number): Promise<Record<string, number>> {
  const { clock, pass } = manualClock();
  const counts: Record<string, number> = {};
  const audit = startAudit(clock, async ({ kinds }) => {
    for (const kind of kinds!) counts[kind] = (counts[kind] ?? 0) + 1;
    return Math.max(...kinds!.map(took));
  });
  await pass(minutes * 60_000);
  audit.stop();
  return counts;
}

it('scans every slice, those that carry traffic most often', async () => {
  const counts = await countScans(3, () => 1);
  for (const kind of ['virtual-service', 'ipset', 'sysctl', 'chain', 'netns']) expect(counts[kind]).toBeGreaterThan(0);
  expect(counts['virtual-service']).toBeGreaterThan(80);
  expect(counts['chain']).toBeGreaterThan(20);
});

it('scans an expensive slice less often without delaying the others', async () => {
  const counts = await countScans(3, (kind) => (kind === 'chain' ? 2_000 : 1));
  expect(counts['chain']).toBeLessThan(25);
  expect(counts['virtual-service']).toBeGreaterThan(80);
});

it('a slow host’s slices stay within five seconds', async () => {
  const counts = await countScans(3, () => 300);
  for (const kind of ['virtual-service', 'ipset', 'sysctl', 'chain']) expect(counts[kind]).toBeGreaterThan(45);
});

it('wakes up once for slices that are due together', async () => {
  const { clock, pass, wakes } = manualClock();
  const audit = startAudit(clock, async () => 5);
  await pass(60_000);
  audit.stop();
  expect(wakes()).toBeLessThanOrEqual(41);
});
