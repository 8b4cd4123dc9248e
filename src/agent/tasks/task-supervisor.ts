import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Listener } from '../../kernel/kernel.ts';
import type { AssignedTask } from '../../model/assignment.ts';
import type { TaskState, TaskStatus } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import { taskNetns } from '../../model/linux-names.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { EndedTask, LiveTask, Runtime, TaskCheckpoint } from '../../runtime/runtime.ts';
import { type AllocatedPort, areAllocated } from '../ports/allocate-ports.ts';
import { createProber } from './prober.ts';
import { whyNotReady } from './readiness.ts';
import { buildStatus, createEntry, shouldRun, type TaskEntry } from './task-entry.ts';
import { statusFromExit } from './task-exit.ts';

/*
 * INVARIANTS
 * - A task is started only when its netns and paths are in the kernel, and at most once.
 * - It is `running` only when every target is bound, so no client meets a port nobody listens on. Its health is told
 *   beside that; what follows from it is the manager's business, but for a task that never ran.
 * - Its paths stay while its process lives, whatever the manager says.
 */

export interface TaskSupervisorOptions {
  runtime: Runtime;
  clock: Clock;
  random(): number;
  log: Log;
  /** MESH_NODE of every task. */
  nodeName(): string;
  netnsPath(taskId: string): string;
  listeners(taskId: string): Promise<Listener[]>;
  /** Numbers for a task's host mode ports that have none; those it has stay. */
  allocatePorts(task: AssignedTask, had: readonly AllocatedPort[]): Promise<AllocatedPort[]>;
  /** A status changed. */
  onStatus(taskId: string, status: TaskStatus): void;
  /** A task's paths are needed no more. */
  onUnexposed(taskId: string): void;
  /** A task is neither assigned nor alive: its files may go once the disk knows that it is not assigned. */
  onRemovable(taskId: string): void;
}

export interface TaskSupervisor {
  /** Takes over what earlier agents started; resolves when it is known which of them serve their ports. */
  adopt(found: readonly (LiveTask | EndedTask)[]): Promise<void>;
  /** The manager's word about some tasks: new or changed ones, and those it has forgotten. */
  assign(changed: readonly AssignedTask[], removed: readonly string[]): void;
  /** The manager's word about all tasks. */
  assignAll(tasks: readonly AssignedTask[]): void;
  /** Tasks whose paths have to be in the kernel. */
  exposed(): AssignedTask[];
  exposedTask(taskId: string): AssignedTask | undefined;
  /** Numbers that tasks which are not over have picked. */
  allocatedPorts(): AllocatedPort[];
  /** Starts what waits and is built; `missing` tells why a task's paths are not there yet. */
  startReady(missing: (taskId: string) => string | undefined): void;
  /** A task that ran in a netns of this name runs in one that nothing leads to any more. */
  onNetnsCreated(netns: string): void;
  statuses(): { taskId: string; status: TaskStatus }[];
  /** Drops what was told through onForgotten. */
  remove(taskId: string): void;
  close(): void;
}

/** First and longest pause between two looks for a task's listeners, ms. */
const POLL_INTERVAL = { first: 50, limit: 1_000 };
/** From then on a status says what a task still lacks, ms. */
const READINESS_GRACE = 10_000;
/** The netns of an ended task answers with a reset until the balancers know of its end; then it is taken away, ms. */
const EXPOSE_AFTER_END = 250;

export function createTaskSupervisor(options: TaskSupervisorOptions): TaskSupervisor {
  const { runtime, clock, log } = options;
  const entries = new Map<string, TaskEntry>();
  let closed = false;

  const prober = createProber({
    clock,
    random: options.random,
    probe: (taskId, probe, timeout) => runtime.probe(taskId, probe, timeout),
    onHealth(taskId, { health, output: said }) {
      const entry = entries.get(taskId);
      if (entry?.phase !== 'live') return;
      if (health !== entry.checkpoint?.health) {
        const { output: _, ...rest } = entry.checkpoint ?? { startedAt: clock.now() };
        saveCheckpoint(entry, { ...rest, health, ...(said === '' ? {} : { output: said }) });
        log.info({ task: taskId, service: entry.task.serviceName }, `${health}${said === '' ? '' : `: ${said}`}`);
      }
      setStatus(entry, entry.status.state, { message: entry.status.state === 'running' ? said : entry.status.message });
      // One that runs is drained first, by the manager; this one never took a connection.
      if (health === 'unhealthy' && entry.status.state === 'starting') failTask(entry, `unhealthy: ${said}`);
    },
  });

  const setStatus = (entry: TaskEntry, state: TaskState, rest: Partial<TaskStatus> = {}) => {
    const next = buildStatus(entry, state, rest, clock.now());
    if (sameValue(next, entry.status)) return;
    entry.status = next;
    options.onStatus(entry.task.id, next);
  };

  function add(task: AssignedTask, assigned: boolean): TaskEntry {
    const entry = createEntry(task, assigned, clock.now());
    entries.set(task.id, entry);
    return entry;
  }

  /** What the next agent finds. A disk that is full must not keep this one from what it does. */
  function saveCheckpoint(entry: TaskEntry, note: TaskCheckpoint): void {
    entry.checkpoint = note;
    try {
      runtime.saveCheckpoint(entry.task.id, note);
    } catch (thrown) {
      log.warn({ task: entry.task.id }, messageOf(thrown));
    }
  }

  /** Ends a task that is wanted but broken. */
  function failTask(entry: TaskEntry, reason: string): void {
    if (entry.stopRequested) return;
    entry.failure = reason;
    entry.stopRequested = true;
    entry.cancel?.();
    prober.stop(entry.task.id);
    runtime.stop(entry.task.id, entry.task.stopGracePeriod);
  }

  function onStarted(entry: TaskEntry, found: LiveTask): void {
    if (entry.phase === 'ended') return;
    entry.phase = 'live';
    entry.stopRequested ||= found.stopRequested;
    log.info({ task: entry.task.id, service: entry.task.serviceName, pid: found.pid }, 'task runs');
    entry.checkpoint = found.note ?? entry.checkpoint;
    setStatus(entry, 'starting', { pid: found.pid });
    if (!entry.stopRequested) prober.start(entry.task, entry.checkpoint);
    reconcileTask(entry);
    void reallocatePorts(entry);
    awaitListeners(entry, clock.monotonic(), POLL_INTERVAL.first);
  }

  function onEnded(entry: TaskEntry, found: EndedTask): void {
    if (entry.phase === 'ended') return;
    entry.cancel?.();
    prober.stop(entry.task.id);
    entry.phase = 'ended';
    const { state, ...rest } =
      entry.failure === undefined
        ? statusFromExit(found, entry.stopRequested, entry.task.stopGracePeriod)
        : { state: 'failed' as const, error: entry.failure };
    log.info(
      { task: entry.task.id, service: entry.task.serviceName, state },
      `task ended: ${rest.error || ('message' in rest ? rest.message : '')}`,
    );
    setStatus(entry, state, rest);
    scheduleUnexpose(entry, EXPOSE_AFTER_END);
  }

  function scheduleUnexpose(entry: TaskEntry, delay: number): void {
    entry.cancel = clock.after(delay, () => {
      entry.exposed = false;
      options.onUnexposed(entry.task.id);
      if (!entry.assigned) options.onRemovable(entry.task.id);
    });
  }

  /** Brings a task to where it is wanted, as far as that needs no look at the kernel. */
  function reconcileTask(entry: TaskEntry): void {
    if (shouldRun(entry)) return;
    if (entry.phase === 'waiting') {
      entry.phase = 'ended';
      setStatus(entry, 'shutdown', { message: 'ended before it was started' });
      scheduleUnexpose(entry, 0);
    } else if (entry.phase === 'live' && !entry.stopRequested) {
      entry.stopRequested = true;
      prober.stop(entry.task.id);
      runtime.stop(entry.task.id, entry.task.stopGracePeriod);
    } else if (entry.phase === 'ended' && !entry.exposed && !entry.assigned) {
      options.onRemovable(entry.task.id);
    }
  }

  /** One look at the sockets of a task; `running` is said at the first one that finds all of its targets. */
  async function checkListeners(entry: TaskEntry, since: number): Promise<boolean> {
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
      setStatus(entry, 'running', { message: entry.checkpoint?.output ?? '' });
      prober.bound(id);
      return true;
    }
    const words = targets.map(({ protocol, port }) => `${port}/${protocol}`).join(', ');
    const withinGrace = clock.monotonic() - since < READINESS_GRACE;
    setStatus(entry, 'starting', { message: withinGrace ? `waiting for ${words}` : problem });
    return false;
  }

  function awaitListeners(entry: TaskEntry, since: number, pause: number): void {
    const next = () => {
      entry.cancel = clock.after(pause, () => awaitListeners(entry, since, Math.min(POLL_INTERVAL.limit, pause * 1.5)));
    };
    checkListeners(entry, since).then(
      (done) => {
        if (!done) next();
      },
      (thrown) => {
        log.debug({ task: entry.task.id }, `cannot see the sockets of the task: ${messageOf(thrown)}`);
        if (!closed && entry.phase === 'live') next();
      },
    );
  }

  async function launch(entry: TaskEntry): Promise<void> {
    const { task } = entry;
    entry.phase = 'launching';
    setStatus(entry, 'starting', { message: 'starting the process' });
    try {
      const ports = task.pick === undefined ? [] : await options.allocatePorts(task, []);
      if (closed) return;
      if (!shouldRun(entry)) {
        entry.phase = 'waiting';
        reconcileTask(entry);
        return;
      }
      entry.checkpoint = { startedAt: clock.now(), ports };
      setStatus(entry, 'starting', { message: 'starting the process' });
      const found = await runtime.start({
        task,
        netnsPath: options.netnsPath(task.id),
        environment: { MESH_NODE: options.nodeName() },
        note: entry.checkpoint,
      });
      if (found.state === 'live') onStarted(entry, found);
      else onEnded(entry, found);
    } catch (thrown) {
      const exit = { error: messageOf(thrown), at: clock.now() };
      onEnded(entry, { state: 'ended', task, exit, stopRequested: false });
    }
  }

  /** Follows a change of a task that runs already, whose process goes on as it is. */
  function applyTaskChange(entry: TaskEntry, before: AssignedTask): void {
    const { task } = entry;
    if (entry.phase !== 'live' || entry.stopRequested) return;
    if (!sameValue(task.health, before.health)) {
      prober.start(task, entry.checkpoint);
      if (entry.status.state === 'running') prober.bound(task.id);
      setStatus(entry, entry.status.state, { message: entry.status.message });
    }
    void reallocatePorts(entry);
  }

  /** Picks ports that a task lacks, and gives up those it is not asked for any more. */
  async function reallocatePorts(entry: TaskEntry): Promise<void> {
    const { task } = entry;
    const had = entry.checkpoint?.ports ?? [];
    if (areAllocated(task.pick ?? [], had)) return;
    try {
      const ports = await options.allocatePorts(task, had);
      if (closed || entry.task !== task || entry.phase !== 'live') return;
      saveCheckpoint(entry, { startedAt: clock.now(), ...entry.checkpoint, ports });
      setStatus(entry, entry.status.state, { message: entry.status.message });
    } catch (thrown) {
      log.error({ task: task.id }, `no host port could be picked: ${messageOf(thrown)}`);
    }
  }

  runtime.onEnd((found) => {
    const entry = entries.get(found.task.id);
    // While it is being launched the answer of `start` says the same, and more.
    if (entry !== undefined && entry.phase === 'live') onEnded(entry, found);
  });

  const assign = (changed: readonly AssignedTask[], removed: readonly string[]) => {
    for (const task of changed) {
      const entry = entries.get(task.id);
      if (entry === undefined) {
        reconcileTask(add(task, true));
        continue;
      }
      const before = entry.task;
      entry.task = task;
      entry.assigned = true;
      reconcileTask(entry);
      applyTaskChange(entry, before);
    }
    for (const id of removed) {
      const entry = entries.get(id);
      if (entry === undefined) continue;
      entry.assigned = false;
      reconcileTask(entry);
    }
  };

  return {
    async adopt(found) {
      const checks: Promise<unknown>[] = [];
      for (const process of found) {
        const entry = add(process.task, true);
        entry.stopRequested = process.stopRequested;
        if (process.state === 'ended') {
          entry.phase = 'ended';
          entry.exposed = false;
          const { state, ...rest } = statusFromExit(process, entry.stopRequested, process.task.stopGracePeriod);
          setStatus(entry, state, { ...rest, since: process.exit.at });
          continue;
        }
        entry.phase = 'live';
        entry.checkpoint = process.note;
        setStatus(entry, 'starting', { pid: process.pid });
        if (!entry.stopRequested) prober.start(entry.task, entry.checkpoint);
        const since = clock.monotonic();
        const first = checkListeners(entry, since).catch(() => false);
        checks.push(
          first.then((done) => {
            if (!done && !closed) awaitListeners(entry, since, POLL_INTERVAL.first);
          }),
        );
        if (entry.stopRequested) runtime.stop(process.task.id, process.task.stopGracePeriod);
      }
      await Promise.all(checks);
    },
    assign,
    assignAll(tasks) {
      const ids = new Set(tasks.map(({ id }) => id));
      assign(
        tasks,
        [...entries.keys()].filter((id) => !ids.has(id)),
      );
    },
    exposed: () => [...entries.values()].filter(({ exposed: shown }) => shown).map(({ task }) => task),
    exposedTask(taskId) {
      const entry = entries.get(taskId);
      return entry?.exposed ? entry.task : undefined;
    },
    allocatedPorts: () =>
      [...entries.values()].flatMap(({ phase, checkpoint: note }) => (phase === 'ended' ? [] : (note?.ports ?? []))),
    startReady(missing) {
      for (const entry of entries.values()) {
        if (entry.phase !== 'waiting' || !entry.exposed || entry.task.desired !== 'running') continue;
        const reason = missing(entry.task.id);
        if (reason === undefined) void launch(entry);
        else setStatus(entry, 'assigned', { message: `waiting for its network: ${reason}` });
      }
    },
    onNetnsCreated(netns) {
      for (const entry of entries.values()) {
        if (entry.phase !== 'live' || entry.stopRequested || taskNetns(entry.task.id) !== netns) continue;
        const why = 'its network namespace was deleted by somebody else';
        log.error({ task: entry.task.id }, `${why}: ending the task, the manager makes another`);
        failTask(entry, why);
      }
    },
    statuses: () =>
      [...entries.values()]
        .filter(({ assigned, status }) => assigned || !isTerminal(status.state))
        .map(({ task, status }) => ({ taskId: task.id, status })),
    remove(taskId) {
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
