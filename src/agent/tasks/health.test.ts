import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { HealthCheck } from '../../model/spec.ts';
import { type HealthEvent, type HealthState, initialHealth, nextHealth, resumeHealth } from './health.ts';

const check = (more: Partial<HealthCheck> = {}): HealthCheck => ({
  probe: { kind: 'shell', command: 'x' },
  interval: 30_000,
  timeout: 1_000,
  retries: 3,
  startPeriod: 0,
  startInterval: 5_000,
  ...more,
});

const ended = (at: number, ok: boolean, output = ok ? '' : 'no'): HealthEvent => ({
  kind: 'ended',
  at,
  ok,
  output,
  jitter: 0.5,
});

/** Runs every probe when it is due, in no time; `fine` decides its result. */
function play(of: HealthCheck, state: HealthState, fine: boolean[]): HealthState[] {
  const states: HealthState[] = [];
  for (const ok of fine) {
    const at = state.nextProbeAt;
    state = nextHealth(of, nextHealth(of, state, { kind: 'begun', at }), ended(at, ok));
    states.push(state);
  }
  return states;
}
const bound = (of: HealthCheck, at: number) => nextHealth(of, initialHealth(of, 0), { kind: 'bound', at });

describe('the first probe', () => {
  it('runs when the ports are bound, or when Docker would run it', () => {
    expect(initialHealth(check(), 1_000).nextProbeAt).toBe(31_000);
    expect(initialHealth(check({ startPeriod: 60_000 }), 1_000).nextProbeAt).toBe(6_000);
    expect(bound(check(), 700).nextProbeAt).toBe(700);
    expect(bound(check(), 40_000).nextProbeAt).toBe(30_000);
  });

  it('makes a task healthy at once', () => {
    expect(play(check(), bound(check(), 700), [true])[0]).toMatchObject({
      health: 'healthy',
      nextProbeAt: 700 + 15_000,
    });
  });

  it('cannot make a task unhealthy if it was early, and the next one follows soon', () => {
    const quick = check({ retries: 1 });
    const [first, second] = play(quick, bound(quick, 700), [false, false]);
    expect(first).toMatchObject({ health: 'starting', failures: 0, nextProbeAt: 5_700 });
    expect(second).toMatchObject({ health: 'starting', failures: 0, nextProbeAt: 10_700 });
  });
});

describe('retries', () => {
  it('failures in a row make a task unhealthy, no sooner than with Docker', () => {
    const states = play(check(), bound(check(), 0), Array(9).fill(false));
    const dues = states.map(({ nextProbeAt: due, health, failures }) => [due, health, failures]);
    expect(dues).toEqual([
      [5_000, 'starting', 0],
      [10_000, 'starting', 0],
      [15_000, 'starting', 0],
      [20_000, 'starting', 0],
      [25_000, 'starting', 0],
      [30_000, 'starting', 0],
      [60_000, 'starting', 1],
      [90_000, 'starting', 2],
      [120_000, 'unhealthy', 3],
    ]);
  });

  it('a success between them starts the count anew', () => {
    const healths = play(check(), bound(check(), 0), [true, false, false, true, false, false, false, true]);
    expect(healths.map(({ health }) => health)).toEqual([
      'healthy',
      'healthy',
      'healthy',
      'healthy',
      'healthy',
      'healthy',
      'unhealthy',
      'healthy',
    ]);
  });

  it('once healthy, failures count in the start period too', () => {
    const long = check({ startPeriod: 600_000, retries: 1 });
    expect(play(long, bound(long, 0), [false, false, true, false]).map(({ health }) => health)).toEqual([
      'starting',
      'starting',
      'healthy',
      'unhealthy',
    ]);
  });

  it('a probe that began in the start period does not count, even if it ends later', () => {
    const slow = check({ startPeriod: 10_000, retries: 1, timeout: 60_000 });
    const begun = nextHealth(slow, bound(slow, 0), { kind: 'begun', at: 9_999 });
    const after = nextHealth(slow, begun, ended(50_000, false));
    expect(after).toMatchObject({ health: 'starting', failures: 0, nextProbeAt: 80_000 });
    expect(play(slow, after, [false])[0]).toMatchObject({ health: 'unhealthy' });
  });
});

describe('the reported output', () => {
  it('is the first failure, the last one, and in between not more than every ten seconds', () => {
    const busy = check({ interval: 1_000, startInterval: 1_000, retries: 20 });
    let state = bound(busy, 0);
    const outputs: string[] = [];
    for (let round = 0; round < 30; round++) {
      const at = state.nextProbeAt;
      state = nextHealth(busy, nextHealth(busy, state, { kind: 'begun', at }), ended(at, false, `try ${round}`));
      if (outputs.at(-1) !== state.output) outputs.push(state.output);
    }
    expect(state.health).toBe('unhealthy');
    expect(outputs).toEqual(['try 0', 'try 10', 'try 20']);
  });

  it('is nothing of a healthy task, even while it fails', () => {
    const states = play(check(), bound(check(), 0), [false, true, false, false]);
    expect(states.map(({ output }) => output)).toEqual(['no', '', '', '']);
  });
});

describe('after a restart of the agent', () => {
  it('a healthy task stays healthy and is probed within an interval', () => {
    const state = resumeHealth(check(), 0, { health: 'healthy', output: '' }, 500_000, 0.25);
    expect(state).toMatchObject({ health: 'healthy', failures: 0, nextProbeAt: 507_500 });
  });

  it('an unhealthy one stays so until a probe succeeds', () => {
    const state = resumeHealth(check(), 0, { health: 'unhealthy', output: 'broken' }, 500_000, 1);
    expect(play(check(), state, [false, true]).map(({ health }) => health)).toEqual(['unhealthy', 'healthy']);
  });
});

it('after any events: one probe at a time, always a next one, unhealthy only after enough failures', () => {
  const event = fc.record({ wait: fc.integer({ min: 0, max: 50_000 }), ok: fc.boolean(), bind: fc.boolean() });
  const checks = fc.record({
    interval: fc.integer({ min: 1, max: 60_000 }),
    retries: fc.integer({ min: 1, max: 5 }),
    startPeriod: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 100_000 })),
    startInterval: fc.integer({ min: 1, max: 10_000 }),
  });
  fc.assert(
    fc.property(checks, fc.array(event, { maxLength: 60 }), (given, events) => {
      const of = check(given);
      let state = initialHealth(of, 0);
      let row = 0;
      for (const { wait, ok, bind } of events) {
        const at = Math.max(state.nextProbeAt, wait);
        if (bind)
          expect(nextHealth(of, state, { kind: 'bound', at }).nextProbeAt).toBeLessThanOrEqual(state.nextProbeAt);
        state = nextHealth(of, state, { kind: 'begun', at });
        expect(state.probeStartedAt).toBe(at);
        expect(nextHealth(of, state, { kind: 'bound', at })).toBe(state);
        state = nextHealth(of, state, ended(at + 1, ok));
        row = ok ? 0 : row + 1;
        expect(state.probeStartedAt).toBeUndefined();
        expect(state.nextProbeAt).toBeGreaterThan(at);
        if (state.health === 'unhealthy') expect(row).toBeGreaterThanOrEqual(of.retries);
        if (ok) expect(state.health).toBe('healthy');
      }
    }),
  );
});
