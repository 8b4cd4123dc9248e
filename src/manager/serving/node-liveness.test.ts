import { beforeEach, expect, test } from 'vitest';
import { fakeClock } from '../manager.test-data.ts';
import { createNodeLiveness } from './node-liveness.ts';

let clock = fakeClock();
let silent: string[] = [];
let liveness = createNodeLiveness(clock, () => {});
beforeEach(() => {
  clock = fakeClock();
  silent = [];
  liveness = createNodeLiveness(clock, (nodeId, timeout) => silent.push(`${nodeId} ${timeout}`));
});

test('a node is silent when nothing was received within its timeout, and reported once', () => {
  liveness.extend('n1', 6_000);
  clock.advance(5_000);
  liveness.extend('n1', 6_000);
  clock.advance(5_900);
  expect([silent, liveness.isSilent('n1')]).toEqual([[], false]);
  clock.advance(100);
  expect([silent, liveness.isSilent('n1')]).toEqual([['n1 6000'], true]);
  clock.advance(60_000);
  expect(silent).toHaveLength(1);
});

test('a longer timeout replaces a shorter one', () => {
  liveness.extend('n1', 6_000);
  clock.advance(1_000);
  liveness.extend('n1', 30_000);
  clock.advance(29_000);
  expect(silent).toEqual([]);
  clock.advance(1_000);
  expect(silent).toEqual(['n1 30000']);
});

test('a report can be retried as long as the node is silent', () => {
  liveness.extend('n1', 6_000);
  clock.advance(6_000);
  liveness.retry('n1', 1_000);
  clock.advance(1_000);
  expect(silent).toHaveLength(2);
  liveness.retry('n1', 1_000);
  liveness.extend('n1', 6_000);
  clock.advance(5_900);
  expect(silent).toHaveLength(2);
});

test('after this process was suspended nodes get their whole timeout again', () => {
  const timers: (() => void)[] = [];
  let now = 0;
  const after = (_: number, callback: () => void) => {
    timers.push(callback);
    return () => {};
  };
  const stalled = createNodeLiveness({ now: () => now, monotonic: () => now, after }, (nodeId) => silent.push(nodeId));
  stalled.extend('n1', 6_000);
  now = 60_000;
  timers.shift()!();
  expect([silent, stalled.isSilent('n1')]).toEqual([[], false]);
  now = 66_000;
  timers.shift()!();
  expect(silent).toEqual(['n1']);
});

test('a node that was forgotten is not reported', () => {
  liveness.extend('n1', 6_000);
  liveness.forget('n1');
  liveness.extend('n2', 6_000);
  liveness.stop();
  clock.advance(60_000);
  expect(silent).toEqual([]);
});
