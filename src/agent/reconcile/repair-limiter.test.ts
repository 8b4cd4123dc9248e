import { expect, it } from 'vitest';
import { createRepairLimiter } from './repair-limiter.ts';

it('never limits rare repairs', () => {
  const repeats = createRepairLimiter();
  for (let now = 0; now < 1_000_000; now += 2_500) expect(repeats.recordRepair('a', now)).toBe(0);
  expect(repeats.conflicts(1_000_000)).toEqual([]);
});

it('pauses ever longer, up to a minute, when the same object is changed again at once', () => {
  const repeats = createRepairLimiter();
  const pauses: number[] = [];
  let now = 0;
  for (let turn = 0; turn < 60; turn++) {
    const pause = repeats.recordRepair('a', now);
    if (pause > 0) pauses.push(pause);
    now += pause === 0 ? 10 : pause;
  }
  expect(pauses.slice(0, 6)).toEqual([2_000, 4_000, 8_000, 16_000, 32_000, 60_000]);
  expect(Math.max(...pauses)).toBe(60_000);
  expect(repeats.conflicts(now)).toEqual(['a']);
  expect(repeats.recordRepair('b', now)).toBe(0);
});

it('forgets a fight that is over', () => {
  const repeats = createRepairLimiter();
  for (let turn = 0; turn < 8; turn++) repeats.recordRepair('a', turn);
  expect(repeats.conflicts(10)).toEqual(['a']);
  expect(repeats.conflicts(20_000)).toEqual([]);
  repeats.conflicts(10 * 60_000);
  expect(repeats.recordRepair('a', 10 * 60_000)).toBe(0);
});
