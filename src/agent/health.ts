import type { TaskStatus } from '../model/cluster.ts';
import type { HealthCheck } from '../model/spec.ts';

/*
 * The life of a task's health, as Docker has it (moby, daemon/health.go), but for one thing: the first probe is made as
 * soon as the task's ports are bound, so that a task joins the balancers when it can serve and not an interval later.
 * Probes that come before Docker would have made its first one can only succeed: their failures do not count.
 *
 * INVARIANTS
 * - One probe at a time; `due` is when the next one begins, while none is under way.
 * - Only what was never healthy is `starting`, and only there failures may not count.
 */

type Health = NonNullable<TaskStatus['health']>;

/** Times are monotonic milliseconds. */
export interface HealthState {
  health: Health;
  startedAt: number;
  /** Failures in a row that count. */
  failures: number;
  due: number;
  /** When the probe under way began. */
  begunAt?: number;
  /** Why it is not healthy, and since when that is said: what probes write may differ each time, and is told rarely. */
  said: string;
  saidAt: number;
}

export type HealthEvent =
  /** Every port of the task is bound. */
  | { kind: 'bound'; at: number }
  | { kind: 'begun'; at: number }
  /** `spread`, 0 to 1: where in the next interval tasks that became healthy together go on, each elsewhere. */
  | { kind: 'ended'; at: number; ok: boolean; output: string; spread: number };

/** Between two texts about a task that goes on failing, ms. */
const SAY_AGAIN = 10_000;

/** A task that has just been started. */
export function beginHealth(check: HealthCheck, startedAt: number): HealthState {
  const due = startedAt + (check.startPeriod > 0 ? check.startInterval : check.interval);
  return { health: 'starting', startedAt, failures: 0, due, said: '', saidAt: startedAt };
}

/** A task that an earlier agent watched: what it knew holds, and all of them are looked at within one interval. */
export function resumeHealth(
  check: HealthCheck,
  startedAt: number,
  known: { health: Health; said: string },
  at: number,
  spread: number,
): HealthState {
  const begun = beginHealth(check, startedAt);
  const failures = known.health === 'unhealthy' ? check.retries : 0;
  const due = at + pause(check, known.health, at - startedAt) * spread;
  return { ...begun, ...known, failures, due, saidAt: at };
}

export function nextHealth(check: HealthCheck, state: HealthState, event: HealthEvent): HealthState {
  const { begunAt, ...idle } = state;
  switch (event.kind) {
    case 'bound':
      return begunAt !== undefined || state.health !== 'starting'
        ? state
        : { ...state, due: Math.min(state.due, event.at) };
    case 'begun':
      return { ...idle, begunAt: event.at };
    case 'ended':
      return event.ok ? succeeded(check, idle, event) : failed(check, idle, begunAt ?? event.at, event);
  }
}

type Ended = Extract<HealthEvent, { kind: 'ended' }>;

function succeeded(check: HealthCheck, state: HealthState, { at, spread }: Ended): HealthState {
  const wait = state.health === 'healthy' ? check.interval : check.interval * spread;
  return { ...state, health: 'healthy', failures: 0, due: at + wait, said: '', saidAt: at };
}

function failed(check: HealthCheck, state: HealthState, begunAt: number, { at, output }: Ended): HealthState {
  const counts = state.health !== 'starting' || begunAt - state.startedAt >= grace(check);
  const failures = counts ? state.failures + 1 : state.failures;
  const health = counts && failures >= check.retries ? 'unhealthy' : state.health;
  const next = { ...state, health, failures, due: at + pause(check, health, at - state.startedAt) };
  // A healthy task that fails once or twice is none that anybody has to hear of.
  if (health === 'healthy') return next;
  const news = health !== state.health || state.said === '' || at - state.saidAt >= SAY_AGAIN;
  return news ? { ...next, said: output, saidAt: at } : next;
}

/** From the start of a task, ms: before that no failure counts. Docker makes its first probe an interval later. */
function grace({ startPeriod, interval }: HealthCheck): number {
  return startPeriod > 0 ? startPeriod : interval;
}

function pause(check: HealthCheck, health: Health, elapsed: number): number {
  if (health !== 'starting' || elapsed >= grace(check)) return check.interval;
  return check.startPeriod > 0 ? check.startInterval : Math.min(check.startInterval, check.interval);
}
