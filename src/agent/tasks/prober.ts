import type { Clock } from '../../base/clock.ts';
import type { AssignedTask } from '../../model/assignment.ts';
import type { HealthCheck } from '../../model/spec.ts';
import type { Runtime, TaskCheckpoint } from '../../runtime/runtime.ts';
import { type HealthEvent, type HealthState, initialHealth, nextHealth, resumeHealth } from './health.ts';

/** Probes under way at once: probing must not use up a node with many tasks. */
const MAX_CONCURRENT_PROBES = 64;

export interface ProberOptions {
  clock: Clock;
  random(): number;
  probe: Runtime['probe'];
  /** Its health, or the reported output, has changed. */
  onHealth(taskId: string, state: Pick<HealthState, 'health' | 'output'>): void;
}

/** Probes running tasks, each in its own interval; when a probe is due and what follows is decided in health.ts. */
export interface Prober {
  /** `note` is the checkpoint of an earlier agent. Does nothing for a task without a healthcheck. */
  start(task: AssignedTask, note: TaskCheckpoint | undefined): void;
  /** Another port of the task is bound, so that a probe may succeed now. */
  bound(taskId: string): void;
  /** No more probes; the result of one under way is ignored. */
  stop(taskId: string): void;
  close(): void;
}

interface ProbedTask {
  taskId: string;
  check: HealthCheck;
  state: HealthState;
  cancel?: () => void;
  stopped: boolean;
}

export function createProber({ clock, random, probe, onHealth }: ProberOptions): Prober {
  const tasks = new Map<string, ProbedTask>();
  const queue: ProbedTask[] = [];
  let running = 0;

  function applyEvent(entry: ProbedTask, event: HealthEvent): void {
    const before = entry.state;
    entry.state = nextHealth(entry.check, before, event);
    if (entry.state.probeStartedAt === undefined && !queue.includes(entry)) schedule(entry);
    if (entry.state.health !== before.health || entry.state.output !== before.output)
      onHealth(entry.taskId, entry.state);
  }

  function schedule(entry: ProbedTask): void {
    entry.cancel?.();
    entry.cancel = clock.after(Math.max(0, entry.state.nextProbeAt - clock.monotonic()), () => {
      queue.push(entry);
      startQueued();
    });
  }

  function startQueued(): void {
    while (running < MAX_CONCURRENT_PROBES) {
      const entry = queue.shift();
      if (entry === undefined) return;
      if (!entry.stopped) void runProbe(entry);
    }
  }

  async function runProbe(entry: ProbedTask): Promise<void> {
    const { taskId, check } = entry;
    running += 1;
    applyEvent(entry, { kind: 'begun', at: clock.monotonic() });
    const { ok, output } = await probe(taskId, check.probe, check.timeout);
    running -= 1;
    // Between half an interval and a whole one: spread out, and never later than configured.
    const jitter = 0.5 + random() / 2;
    if (!entry.stopped) applyEvent(entry, { kind: 'ended', at: clock.monotonic(), ok, output, jitter });
    startQueued();
  }

  const stop = (taskId: string) => {
    const entry = tasks.get(taskId);
    if (entry === undefined) return;
    entry.stopped = true;
    entry.cancel?.();
    tasks.delete(taskId);
  };

  return {
    start({ id, health: check }, checkpoint) {
      stop(id);
      if (check === undefined) return;
      const at = clock.monotonic();
      const startedAt = checkpoint === undefined ? at : at - Math.max(0, clock.now() - checkpoint.startedAt);
      const previous = checkpoint?.health && { health: checkpoint.health, output: checkpoint.output ?? '' };
      const state = previous ? resumeHealth(check, startedAt, previous, at, random()) : initialHealth(check, startedAt);
      const entry: ProbedTask = { taskId: id, check, state, stopped: false };
      tasks.set(id, entry);
      schedule(entry);
    },
    bound(taskId) {
      const entry = tasks.get(taskId);
      if (entry !== undefined) applyEvent(entry, { kind: 'bound', at: clock.monotonic() });
    },
    stop,
    close: () => [...tasks.keys()].forEach(stop),
  };
}
