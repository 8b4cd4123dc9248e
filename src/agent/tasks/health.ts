import type { TaskStatus } from '../../model/cluster.ts';
import type { HealthCheck } from '../../model/spec.ts';

/*
 * The health of a task, as in Docker (moby, daemon/health.go) with one difference: the first probe is made as
 * soon as the task's ports are bound, so that a task joins the balancers when it can serve and not an interval later.
 * Failures of probes made before Docker would have made its first one do not count.
 *
 * INVARIANTS
 * - One probe at a time; `nextProbeAt` is when the next one begins, while none is under way.
 * - Only a task that was never healthy is `starting`, and only then failures may not count.
 */

type Health = NonNullable<TaskStatus['health']>;

/** Times are monotonic milliseconds. */
export interface HealthState {
  health: Health;
  startedAt: number;
  /** Failures in a row that count. */
  failures: number;
  nextProbeAt: number;
  /** When the probe under way began. */
  probeStartedAt?: number;
  /** Why it is not healthy, and since when that text is reported: the output of probes may differ each time. */
  output: string;
  outputAt: number;
}

export type HealthEvent =
  /** Another port of the task is bound, so that a probe may succeed now. */
  | { kind: 'bound'; at: number }
  | { kind: 'begun'; at: number }
  /** `jitter`, 0 to 1: where in the next interval the task is probed, so that tasks do not stay in step. */
  | { kind: 'ended'; at: number; ok: boolean; output: string; jitter: number };

/** Between two reported texts of a task that keeps failing, ms. */
const OUTPUT_INTERVAL = 10_000;

/** A task that has just been started. */
export function initialHealth(check: HealthCheck, startedAt: number): HealthState {
  const due = startedAt + (check.startPeriod > 0 ? check.startInterval : check.interval);
  return { health: 'starting', startedAt, failures: 0, nextProbeAt: due, output: '', outputAt: startedAt };
}

/** A task that an earlier agent probed: its result is kept, and it is probed again within one interval. */
export function resumeHealth(
  check: HealthCheck,
  startedAt: number,
  previous: { health: Health; output: string },
  at: number,
  jitter: number,
): HealthState {
  const initial = initialHealth(check, startedAt);
  const failures = previous.health === 'unhealthy' ? check.retries : 0;
  const due = at + probeInterval(check, previous.health, at - startedAt) * jitter;
  return { ...initial, ...previous, failures, nextProbeAt: due, outputAt: at };
}

export function nextHealth(check: HealthCheck, state: HealthState, event: HealthEvent): HealthState {
  const { probeStartedAt: begunAt, ...idle } = state;
  switch (event.kind) {
    case 'bound':
      return begunAt !== undefined || state.health !== 'starting'
        ? state
        : { ...state, nextProbeAt: Math.min(state.nextProbeAt, event.at) };
    case 'begun':
      return { ...idle, probeStartedAt: event.at };
    case 'ended':
      return event.ok ? onProbeSuccess(check, idle, event) : onProbeFailure(check, idle, begunAt ?? event.at, event);
  }
}

type ProbeEnded = Extract<HealthEvent, { kind: 'ended' }>;

function onProbeSuccess(check: HealthCheck, state: HealthState, { at, jitter: spread }: ProbeEnded): HealthState {
  const wait = state.health === 'healthy' ? check.interval : check.interval * spread;
  return { ...state, health: 'healthy', failures: 0, nextProbeAt: at + wait, output: '', outputAt: at };
}

function onProbeFailure(
  check: HealthCheck,
  state: HealthState,
  begunAt: number,
  { at, output }: ProbeEnded,
): HealthState {
  const counts = state.health !== 'starting' || begunAt - state.startedAt >= gracePeriod(check);
  const failures = counts ? state.failures + 1 : state.failures;
  const health = counts && failures >= check.retries ? 'unhealthy' : state.health;
  const next = { ...state, health, failures, nextProbeAt: at + probeInterval(check, health, at - state.startedAt) };
  // A healthy task that fails once or twice is not reported.
  if (health === 'healthy') return next;
  const shouldReport = health !== state.health || state.output === '' || at - state.outputAt >= OUTPUT_INTERVAL;
  return shouldReport ? { ...next, output, outputAt: at } : next;
}

/** From the start of a task, ms: before that no failure counts. Docker makes its first probe an interval later. */
function gracePeriod({ startPeriod, interval }: HealthCheck): number {
  return startPeriod > 0 ? startPeriod : interval;
}

function probeInterval(check: HealthCheck, health: Health, elapsed: number): number {
  if (health !== 'starting' || elapsed >= gracePeriod(check)) return check.interval;
  return check.startPeriod > 0 ? check.startInterval : Math.min(check.startInterval, check.interval);
}
