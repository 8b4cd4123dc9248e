import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Listener } from '../kernel/kernel.ts';
import type { AssignedTask } from '../model/assignment.ts';
import { isTerminal, type TaskState, type TaskStatus } from '../model/cluster.ts';
import { sameValue } from '../model/equality.ts';
import { taskNetns } from '../model/names.ts';
import type { EndedTask, LiveTask, Runtime, TaskNote } from '../runtime/runtime.ts';
import { hasPicked, type PickedPort } from './pick-ports.ts';
import { createProber } from './prober.ts';
import { whyNotReady } from './readiness.ts';
import { statusOfEnd } from './task-end.ts';
import { type Entry, isWanted, newEntry, statusOf } from './task-entry.ts';

/*
 * INVARIANTS
 * - A task is started only when its netns and paths are in the kernel, and at most once.
 * - It is `running` only when every target is bound, so no client meets a port nobody listens on. Its health is told
 *   beside that; what follows from it is the manager's business, but for a task that never ran.
 * - Its paths stay while its process lives, whatever the manager says.
 */

export interface TaskKeeperOptions {
  runtime: Runtime;
  clock: Clock;
  random(): number;
  log: Log;
  /** MESH_NODE of every task. */
  nodeName(): string;
  netnsPath(taskId: string): string;
  listeners(taskId: string): Promise<Listener[]>;
  /** Numbers for a task's host mode ports that have none; those it has stay. */
  pick(task: AssignedTask, had: readonly PickedPort[]): Promise<PickedPort[]>;
  /** A status changed. */
  onStatus(taskId: string, status: TaskStatus): void;
  /** A task's paths are needed no more. */
  onHidden(taskId: string): void;
  /** A task is neither assigned nor alive: its files may go once the disk knows that it is not assigned. */
  onForgotten(taskId: string): void;
}

export interface TaskKeeper {
  /** Takes over what earlier agents started; resolves when it is known which of them serve their ports. */
  adopt(found: readonly (LiveTask | EndedTask)[]): Promise<void>;
  /** The manager's word about some tasks: new or changed ones, and those it has forgotten. */
  assign(changed: readonly AssignedTask[], removed: readonly string[]): void;
  /** The manager's word about all tasks. */
  assignAll(tasks: readonly AssignedTask[]): void;
  /** Tasks whose paths have to be in the kernel. */
  shown(): AssignedTask[];
  shownTask(taskId: string): AssignedTask | undefined;
  /** Numbers that tasks which are not over have picked. */
  picked(): PickedPort[];
  /** Starts what waits and is built; `missing` tells why a task's paths are not there yet. */
  advance(missing: (taskId: string) => string | undefined): void;
  /** A task that ran in a netns of this name runs in one that nothing leads to any more. */
  netnsMade(netns: string): void;
  statuses(): { taskId: string; status: TaskStatus }[];
  /** Drops what was told through onForgotten. */
  forget(taskId: string): void;
  close(): void;
}

/** First and longest pause between two looks for a task's listeners, ms. */
const POLL = { first: 50, limit: 1_000 };
/** From then on a status says what a task still lacks, ms. */
const PATIENCE = 10_000;
/** The netns of an ended task answers with a reset until the balancers know of its end; then it is taken away, ms. */
const AFTERLIFE = 250;

export function createTaskKeeper(options: TaskKeeperOptions): TaskKeeper {
  const { runtime, clock, log } = options;
  const entries = new Map<string, Entry>();
  let closed = false;

  const prober = createProber({
    clock,
    random: options.random,
    probe: (taskId, probe, timeout) => runtime.probe(taskId, probe, timeout),
    onHealth(taskId, { health, said }) {
      const entry = entries.get(taskId);
      if (entry?.phase !== 'live') return;
      if (health !== entry.note?.health) {
        const { output: _, ...rest } = entry.note ?? { startedAt: clock.now() };
        keep(entry, { ...rest, health, ...(said === '' ? {} : { output: said }) });
        log.info({ task: taskId, service: entry.task.serviceName }, `${health}${said === '' ? '' : `: ${said}`}`);
      }
      setStatus(entry, entry.status.state, { message: entry.status.state === 'running' ? said : entry.status.message });
      // One that runs is drained first, by the manager; this one never took a connection.
      if (health === 'unhealthy' && entry.status.state === 'starting') end(entry, `unhealthy: ${said}`);
    },
  });

  const setStatus = (entry: Entry, state: TaskState, rest: Partial<TaskStatus> = {}) => {
    const next = statusOf(entry, state, rest, clock.now());
    if (sameValue(next, entry.status)) return;
    entry.status = next;
    options.onStatus(entry.task.id, next);
  };

  function add(task: AssignedTask, assigned: boolean): Entry {
    const entry = newEntry(task, assigned, clock.now());
    entries.set(task.id, entry);
    return entry;
  }

  /** What the next agent finds. A disk that is full must not keep this one from what it does. */
  function keep(entry: Entry, note: TaskNote): void {
    entry.note = note;
    try {
      runtime.keep(entry.task.id, note);
    } catch (thrown) {
      log.warn({ task: entry.task.id }, messageOf(thrown));
    }
  }

  /** Ends a task that is wanted but broken. */
  function end(entry: Entry, why: string): void {
    if (entry.stopped) return;
    entry.broken = why;
    entry.stopped = true;
    entry.cancel?.();
    prober.stop(entry.task.id);
    runtime.stop(entry.task.id, entry.task.stopGracePeriod);
  }

  function live(entry: Entry, found: LiveTask): void {
    if (entry.phase === 'ended') return;
    entry.phase = 'live';
    entry.stopped ||= found.stopping;
    log.info({ task: entry.task.id, service: entry.task.serviceName, pid: found.pid }, 'task runs');
    entry.note = found.note ?? entry.note;
    setStatus(entry, 'starting', { pid: found.pid });
    if (!entry.stopped) prober.start(entry.task, entry.note);
    follow(entry);
    void pickAnew(entry);
    awaitListeners(entry, clock.monotonic(), POLL.first);
  }

  function ended(entry: Entry, found: EndedTask): void {
    if (entry.phase === 'ended') return;
    entry.cancel?.();
    prober.stop(entry.task.id);
    entry.phase = 'ended';
    const { state, ...rest } =
      entry.broken === undefined
        ? statusOfEnd(found, entry.stopped, entry.task.stopGracePeriod)
        : { state: 'failed' as const, error: entry.broken };
    log.info(
      { task: entry.task.id, service: entry.task.serviceName, state },
      `task ended: ${rest.error || ('message' in rest ? rest.message : '')}`,
    );
    setStatus(entry, state, rest);
    leave(entry, AFTERLIFE);
  }

  function leave(entry: Entry, delay: number): void {
    entry.cancel = clock.after(delay, () => {
      entry.shown = false;
      options.onHidden(entry.task.id);
      if (!entry.assigned) options.onForgotten(entry.task.id);
    });
  }

  /** Brings a task to where it is wanted, as far as that needs no look at the kernel. */
  function follow(entry: Entry): void {
    if (isWanted(entry)) return;
    if (entry.phase === 'waiting') {
      entry.phase = 'ended';
      setStatus(entry, 'shutdown', { message: 'ended before it was started' });
      leave(entry, 0);
    } else if (entry.phase === 'live' && !entry.stopped) {
      entry.stopped = true;
      prober.stop(entry.task.id);
      runtime.stop(entry.task.id, entry.task.stopGracePeriod);
    } else if (entry.phase === 'ended' && !entry.shown && !entry.assigned) {
      options.onForgotten(entry.task.id);
    }
  }

  /** One look at the sockets of a task; `running` is said at the first one that finds all of its targets. */
  async function look(entry: Entry, since: number): Promise<boolean> {
    const { id, targets, addresses } = entry.task;
    const problem =
      targets.length === 0
        ? undefined
        : whyNotReady(
            targets,
            addresses.map(({ address }) => address),
            await options.listeners(id),
          );
    if (closed || entry.phase !== 'live') return true;
    if (problem === undefined) {
      setStatus(entry, 'running', { message: entry.note?.output ?? '' });
      prober.bound(id);
      return true;
    }
    const words = targets.map(({ protocol, port }) => `${port}/${protocol}`).join(', ');
    const patient = clock.monotonic() - since < PATIENCE;
    setStatus(entry, 'starting', { message: patient ? `waiting for ${words}` : problem });
    return false;
  }

  function awaitListeners(entry: Entry, since: number, pause: number): void {
    const next = () => {
      entry.cancel = clock.after(pause, () => awaitListeners(entry, since, Math.min(POLL.limit, pause * 1.5)));
    };
    look(entry, since).then(
      (done) => {
        if (!done) next();
      },
      (thrown) => {
        log.debug({ task: entry.task.id }, `cannot see the sockets of the task: ${messageOf(thrown)}`);
        if (!closed && entry.phase === 'live') next();
      },
    );
  }

  async function launch(entry: Entry): Promise<void> {
    const { task } = entry;
    entry.phase = 'launching';
    setStatus(entry, 'starting', { message: 'starting the process' });
    try {
      const ports = task.pick === undefined ? [] : await options.pick(task, []);
      if (closed) return;
      if (!isWanted(entry)) {
        entry.phase = 'waiting';
        follow(entry);
        return;
      }
      entry.note = { startedAt: clock.now(), ports };
      setStatus(entry, 'starting', { message: 'starting the process' });
      const found = await runtime.start({
        task,
        netnsPath: options.netnsPath(task.id),
        environment: { MESH_NODE: options.nodeName() },
        note: entry.note,
      });
      if (found.state === 'live') live(entry, found);
      else ended(entry, found);
    } catch (thrown) {
      const exit = { error: messageOf(thrown), at: clock.now() };
      ended(entry, { state: 'ended', task, exit, stopping: false });
    }
  }

  /** Follows a change of a task that runs already, whose process goes on as it is. */
  function adapt(entry: Entry, before: AssignedTask): void {
    const { task } = entry;
    if (entry.phase !== 'live' || entry.stopped) return;
    if (!sameValue(task.health, before.health)) {
      prober.start(task, entry.note);
      if (entry.status.state === 'running') prober.bound(task.id);
      setStatus(entry, entry.status.state, { message: entry.status.message });
    }
    void pickAnew(entry);
  }

  /** Picks ports that a task lacks, and gives up those it is not asked for any more. */
  async function pickAnew(entry: Entry): Promise<void> {
    const { task } = entry;
    const had = entry.note?.ports ?? [];
    if (hasPicked(task.pick ?? [], had)) return;
    try {
      const ports = await options.pick(task, had);
      if (closed || entry.task !== task || entry.phase !== 'live') return;
      keep(entry, { startedAt: clock.now(), ...entry.note, ports });
      setStatus(entry, entry.status.state, { message: entry.status.message });
    } catch (thrown) {
      log.error({ task: task.id }, `no host port could be picked: ${messageOf(thrown)}`);
    }
  }

  runtime.onEnd((found) => {
    const entry = entries.get(found.task.id);
    // While it is being launched the answer of `start` says the same, and more.
    if (entry !== undefined && entry.phase === 'live') ended(entry, found);
  });

  const assign = (changed: readonly AssignedTask[], removed: readonly string[]) => {
    for (const task of changed) {
      const entry = entries.get(task.id);
      if (entry === undefined) {
        follow(add(task, true));
        continue;
      }
      const before = entry.task;
      entry.task = task;
      entry.assigned = true;
      follow(entry);
      adapt(entry, before);
    }
    for (const id of removed) {
      const entry = entries.get(id);
      if (entry === undefined) continue;
      entry.assigned = false;
      follow(entry);
    }
  };

  return {
    async adopt(found) {
      const looks: Promise<unknown>[] = [];
      for (const process of found) {
        const entry = add(process.task, true);
        entry.stopped = process.stopping;
        if (process.state === 'ended') {
          entry.phase = 'ended';
          entry.shown = false;
          const { state, ...rest } = statusOfEnd(process, entry.stopped, process.task.stopGracePeriod);
          setStatus(entry, state, { ...rest, since: process.exit.at });
          continue;
        }
        entry.phase = 'live';
        entry.note = process.note;
        setStatus(entry, 'starting', { pid: process.pid });
        if (!entry.stopped) prober.start(entry.task, entry.note);
        const since = clock.monotonic();
        const first = look(entry, since).catch(() => false);
        looks.push(
          first.then((done) => {
            if (!done && !closed) awaitListeners(entry, since, POLL.first);
          }),
        );
        if (entry.stopped) runtime.stop(process.task.id, process.task.stopGracePeriod);
      }
      await Promise.all(looks);
    },
    assign,
    assignAll(tasks) {
      const ids = new Set(tasks.map(({ id }) => id));
      assign(
        tasks,
        [...entries.keys()].filter((id) => !ids.has(id)),
      );
    },
    shown: () => [...entries.values()].filter(({ shown }) => shown).map(({ task }) => task),
    shownTask(taskId) {
      const entry = entries.get(taskId);
      return entry?.shown ? entry.task : undefined;
    },
    picked: () => [...entries.values()].flatMap(({ phase, note }) => (phase === 'ended' ? [] : (note?.ports ?? []))),
    advance(missing) {
      for (const entry of entries.values()) {
        if (entry.phase !== 'waiting' || !entry.shown || entry.task.desired !== 'running') continue;
        const reason = missing(entry.task.id);
        if (reason === undefined) void launch(entry);
        else setStatus(entry, 'assigned', { message: `waiting for its network: ${reason}` });
      }
    },
    netnsMade(netns) {
      for (const entry of entries.values()) {
        if (entry.phase !== 'live' || entry.stopped || taskNetns(entry.task.id) !== netns) continue;
        const why = 'its network namespace was deleted by somebody else';
        log.error({ task: entry.task.id }, `${why}: ending the task, the manager makes another`);
        end(entry, why);
      }
    },
    statuses: () =>
      [...entries.values()]
        .filter(({ assigned, status }) => assigned || !isTerminal(status.state))
        .map(({ task, status }) => ({ taskId: task.id, status })),
    forget(taskId) {
      const entry = entries.get(taskId);
      if (entry?.phase === 'ended' && !entry.assigned) entries.delete(taskId);
    },
    close() {
      closed = true;
      prober.close();
      for (const entry of entries.values()) entry.cancel?.();
    },
  };
}
