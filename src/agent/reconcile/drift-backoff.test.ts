import { beforeEach, expect, it } from 'vitest';
import type { Clock } from '../../base/clock.ts';
import type { Scope } from '../../kernel/kernel.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { RealServer } from '../../model/kinds/real-server.ts';
import { type Conditions, createConditions } from '../conditions.ts';
import { createDriftBackoff, type DriftBackoff } from './drift-backoff.ts';

let now = 0;
let timers: { at: number; callback: () => void }[] = [];
let rechecked: Scope[] = [];
let conditions: Conditions;
let driftBackoff: DriftBackoff;

const clock: Clock = {
  now: () => now,
  monotonic: () => now,
  after(delay, callback) {
    const timer = { at: now + delay, callback };
    timers.push(timer);
    return () => {
      timers = timers.filter((other) => other !== timer);
    };
  },
};

const server: RealServer = {
  kind: 'real-server',
  netns: 'mesh-lb',
  family: 'inet',
  fwmark: 73616,
  address: '10.252.1.5',
  port: 80,
  weight: 1,
};
const op: Op = { verb: 'create', object: server };
const other: Op = { verb: 'create', object: { ...server, address: '10.252.1.6' } };
const none = () => false;

beforeEach(() => {
  now = 0;
  timers = [];
  rechecked = [];
  conditions = createConditions(() => {});
  driftBackoff = createDriftBackoff({ clock, conditions, recheck: (scope) => rechecked.push(scope) });
});

/** The object is removed every `pause` ms; returns how often it was repaired. */
function repairRepeatedly(times: number, pause: number): number {
  let repairs = 0;
  for (let round = 0; round < times; round++) {
    now += pause;
    repairs += driftBackoff.allowed([op], none).length;
  }
  return repairs;
}

it('a conflict results in growing pauses and a condition', () => {
  expect(repairRepeatedly(1_000, 20)).toBeLessThan(12);
  expect(conditions.get('DriftConflict')?.params).toEqual({
    objects: expect.stringMatching(/^`real-server .* 10\.252\.1\.5 80`$/),
    count: '1',
  });
  expect(repairRepeatedly(6_000, 20)).toBeLessThan(25);
});

it('many events during a pause cause one check, not thousands', () => {
  repairRepeatedly(1_000, 20);
  expect(timers.length).toBe(1);
  for (let event = 0; event < 1_000; event++) expect(driftBackoff.defers({ netns: ['mesh-lb'] })).toBe(true);
  expect(timers.length).toBe(1);
  now = timers[0]!.at;
  timers.shift()!.callback();
  expect(rechecked.length).toBeGreaterThan(0);
  expect(rechecked.length).toBeLessThan(3);
});

it('other objects are repaired at once meanwhile', () => {
  repairRepeatedly(100, 20);
  expect(driftBackoff.allowed([op, other], none)).toEqual([other]);
});

it('some time after the last modification the object is repaired and the condition cleared', () => {
  repairRepeatedly(50, 20);
  now += 120_000;
  expect(driftBackoff.allowed([op], none)).toEqual([op]);
  now += 120_000;
  driftBackoff.allowed([], none);
  expect(conditions.list()).toEqual([]);
  expect(driftBackoff.defers({})).toBe(false);
});
