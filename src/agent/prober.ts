import type { Clock } from '../base/clock.ts';
import type { AssignedTask } from '../model/assignment.ts';
import type { HealthCheck } from '../model/spec.ts';
import type { Runtime, TaskNote } from '../runtime/runtime.ts';
import { beginHealth, type HealthEvent, type HealthState, nextHealth, resumeHealth } from './health.ts';

/** Probes under way at once: a node full of tasks must not spend itself on asking how they are. */
const LIMIT = 64;

export interface ProberOptions {
  clock: Clock;
  random(): number;
  probe: Runtime['probe'];
  /** Its health, or what is said of it, has changed. */
  onHealth(taskId: string, state: Pick<HealthState, 'health' | 'said'>): void;
}

/** Probes tasks that run, each by its own clock; when each is due, and what follows, is in health.ts. */
export interface Prober {
  /** From here on; `note` is what an earlier agent knew. Does nothing for a task without a healthcheck. */
  start(task: AssignedTask, note: TaskNote | undefined): void;
  /** Every port of the task is bound. */
  bound(taskId: string): void;
  /** No more probes; what one under way says is not heard. */
  stop(taskId: string): void;
  close(): void;
}

interface Watched {
  taskId: string;
  check: HealthCheck;
  state: HealthState;
  cancel?: () => void;
  stopped: boolean;
}

export function createProber({ clock, random, probe, onHealth }: ProberOptions): Prober {
  const watched = new Map<string, Watched>();
  const waiting: Watched[] = [];
  let under = 0;

  function step(entry: Watched, event: HealthEvent): void {
    const before = entry.state;
    entry.state = nextHealth(entry.check, before, event);
    if (entry.state.begunAt === undefined && !waiting.includes(entry)) schedule(entry);
    if (entry.state.health !== before.health || entry.state.said !== before.said) onHealth(entry.taskId, entry.state);
  }

  function schedule(entry: Watched): void {
    entry.cancel?.();
    entry.cancel = clock.after(Math.max(0, entry.state.due - clock.monotonic()), () => {
      waiting.push(entry);
      pump();
    });
  }

  function pump(): void {
    while (under < LIMIT) {
      const entry = waiting.shift();
      if (entry === undefined) return;
      if (!entry.stopped) void run(entry);
    }
  }

  async function run(entry: Watched): Promise<void> {
    const { taskId, check } = entry;
    under += 1;
    step(entry, { kind: 'begun', at: clock.monotonic() });
    const { ok, output } = await probe(taskId, check.probe, check.timeout);
    under -= 1;
    // Between half of an interval and all of it: apart, and never later than was asked for.
    const spread = 0.5 + random() / 2;
    if (!entry.stopped) step(entry, { kind: 'ended', at: clock.monotonic(), ok, output, spread });
    pump();
  }

  const stop = (taskId: string) => {
    const entry = watched.get(taskId);
    if (entry === undefined) return;
    entry.stopped = true;
    entry.cancel?.();
    watched.delete(taskId);
  };

  return {
    start({ id, health: check }, note) {
      stop(id);
      if (check === undefined) return;
      const at = clock.monotonic();
      const startedAt = note === undefined ? at : at - Math.max(0, clock.now() - note.startedAt);
      const known = note?.health && { health: note.health, said: note.output ?? '' };
      const state = known ? resumeHealth(check, startedAt, known, at, random()) : beginHealth(check, startedAt);
      const entry: Watched = { taskId: id, check, state, stopped: false };
      watched.set(id, entry);
      schedule(entry);
    },
    bound(taskId) {
      const entry = watched.get(taskId);
      if (entry !== undefined) step(entry, { kind: 'bound', at: clock.monotonic() });
    },
    stop,
    close: () => [...watched.keys()].forEach(stop),
  };
}
