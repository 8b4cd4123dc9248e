import { expect, it } from 'vitest';
import type { Clock } from '../../base/clock.ts';
import type { AssignedTask } from '../../model/assignment.ts';
import type { ProbeResult } from '../../runtime/runtime.ts';
import { createProber } from './prober.ts';

/** A clock that only the test advances. */
function manualClock() {
  let time = 0;
  let timers: { at: number; callback: () => void }[] = [];
  const clock: Clock = {
    now: () => time,
    monotonic: () => time,
    after(delay, callback) {
      const timer = { at: time + delay, callback };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
  };
  const goTo = async (to: number) => {
    for (;;) {
      await new Promise((resolve) => setImmediate(resolve));
      const next = timers.filter(({ at }) => at <= to).sort((a, b) => a.at - b.at)[0];
      if (next === undefined) break;
      timers = timers.filter((timer) => timer !== next);
      time = next.at;
      next.callback();
    }
    time = to;
  };
  return { clock, goTo };
}

const INTERVAL = 30_000;
const tasks = Array.from({ length: 1_000 }, (_, index) => ({
  id: `t${index}`,
  health: {
    probe: { kind: 'tcp', port: 80 },
    interval: INTERVAL,
    timeout: 1_000,
    retries: 3,
    startPeriod: 0,
    startInterval: 5_000,
  },
})) as unknown as AssignedTask[];

it('a thousand tasks are never probed all at once, and spread over the interval', async () => {
  const { clock, goTo } = manualClock();
  const under: ((result: ProbeResult) => void)[] = [];
  const begun: { id: string; at: number }[] = [];
  let most = 0;
  let seed = 1;
  const prober = createProber({
    clock,
    random: () => {
      seed = (seed * 48_271) % 2_147_483_647;
      return seed / 2_147_483_647;
    },
    probe(id) {
      begun.push({ id, at: clock.monotonic() });
      return new Promise((resolve) => {
        under.push(resolve);
        most = Math.max(most, under.length);
      });
    },
    onHealth: () => {},
  });
  for (const task of tasks) prober.start(task, undefined);
  for (const task of tasks) prober.bound(task.id);
  while (begun.length < tasks.length) {
    await goTo(clock.monotonic());
    for (const end of under.splice(0)) end({ ok: true, output: '' });
  }
  expect(new Set(begun.map(({ id }) => id)).size).toBe(tasks.length);
  expect(most).toBeLessThanOrEqual(64);
  await goTo(clock.monotonic());
  // The second round: everyone once within an interval, and no moment has them all.
  begun.length = 0;
  const step = INTERVAL / 100;
  for (let at = clock.monotonic() + step; begun.length < tasks.length; at += step) {
    const before = begun.length;
    await goTo(at);
    for (const end of under.splice(0)) end({ ok: true, output: '' });
    expect(begun.length - before).toBeLessThan(64);
  }
  prober.close();
});

it('a task that is stopped while its probe is queued or under way is not reported again', async () => {
  const { clock, goTo } = manualClock();
  const reported: string[] = [];
  const answers: ((result: ProbeResult) => void)[] = [];
  const prober = createProber({
    clock,
    random: () => 0,
    probe: () => new Promise((resolve) => void answers.push(resolve)),
    onHealth: (id) => void reported.push(id),
  });
  for (const task of tasks) prober.start(task, undefined);
  for (const task of tasks) prober.bound(task.id);
  await goTo(0);
  expect(answers).toHaveLength(64);
  for (const { id } of tasks.slice(1)) prober.stop(id);
  for (const end of answers) end({ ok: true, output: '' });
  await goTo(INTERVAL * 3);
  expect(reported).toEqual(['t0']);
  // 64 of the first round, and the one that is left.
  expect(answers).toHaveLength(65);
});
