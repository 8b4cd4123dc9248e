import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Listener } from '../../kernel/kernel.ts';
import type { AssignedTask } from '../../model/assignment.ts';
import type { TaskState, TaskStatus } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import { formatPorts } from '../../model/port-ranges.ts';
import type { EndedTask, LiveTask, Runtime, TaskCheckpoint } from '../../runtime/runtime.ts';
import { type AllocatedPort, areAllocated } from '../ports/allocate-ports.ts';
import type { HealthState } from './health.ts';
import { createListenerPoll } from './listener-poll.ts';
import { createProber } from './prober.ts';
import { describeMissing, type Readiness } from './readiness.ts';
import {
  buildStatus,
  currentDetails,
  nextAction,
  type StatusDetails,
  shouldRun,
  type TaskEntry,
  type TaskFailure,
} from './task-entry.ts';
import { statusFromExit } from './task-exit.ts';

export interface TaskLifeOptions {
  runtime: Runtime;
  clock: Clock;
  /** 0 up to 1, for jitter. */
  random(): number;
  log: Log;
  /** MESH_NODE of every task. */
  nodeName(): string;
  netnsPath(taskId: string): string;
  listeners(taskId: string): Promise<Listener[]>;
  /** Allocates numbers for a task's host mode ports that have none; those it has are kept. */
  allocatePorts(task: AssignedTask, had: readonly AllocatedPort[]): Promise<AllocatedPort[]>;
  onStatus(taskId: string, status: TaskStatus): void;
  /** A task's paths are not needed any more. */
  onUnexposed(taskId: string): void;
  /** A task is neither assigned nor alive: its files may be removed once the assignment on disk is without it. */
  onRemovable(taskId: string): void;
}

/** The steps in the life of one task: start, adoption, end, and the changes of what it should be. */
export interface TaskLife {
  launch(entry: TaskEntry): Promise<void>;
  /** Takes over what an earlier agent started; resolves when it is known whether it serves its ports. */
  adopt(entry: TaskEntry, found: LiveTask | EndedTask): Promise<void>;
  onEnded(entry: TaskEntry, found: EndedTask): void;
  /** Makes a task what it should be, as far as that needs no observation of the kernel. */
  advance(entry: TaskEntry): void;
  /** Applies a change of a running task, whose process keeps running. */
  update(entry: TaskEntry, before: AssignedTask): void;
  /** Stops a task that should run but cannot. */
  fail(entry: TaskEntry, failure: TaskFailure): void;
  /** Reports why it is not started yet. */
  wait(entry: TaskEntry, why: string): void;
  close(): void;
}

function isHealthy({ task, checkpoint }: TaskEntry): boolean {
  return task.health !== undefined && checkpoint?.health === 'healthy';
}

/** A health check may succeed, and a port be bound on demand, without a socket that accepts clients. */
function runningDetails({ missing, unreachable, output }: TaskEntry): StatusDetails {
  if (output !== '') return { message: output };
  const limits = [...(unreachable === undefined ? [] : [unreachable]), ...describeMissing(missing)];
  if (limits.length === 0) return { message: '' };
  return { reason: unreachable === undefined ? 'FamilyMissing' : 'PortUnreachable', message: limits.join(', and ') };
}

/** The netns of an ended task answers with a reset until the balancers know of its end; then it is removed, ms. */
const EXPOSE_AFTER_END = 250;

export function createTaskLife(options: TaskLifeOptions, find: (taskId: string) => TaskEntry | undefined): TaskLife {
  const { runtime, clock, log } = options;
  let closed = false;

  const prober = createProber({
    clock,
    random: options.random,
    probe: (taskId, probe, timeout) => runtime.probe(taskId, probe, timeout),
    onHealth(taskId, health) {
      const entry = find(taskId);
      if (entry?.phase === 'live') onHealth(entry, health);
    },
  });

  const listenerPoll = createListenerPoll({
    clock,
    log,
    listeners: options.listeners,
    onReadiness,
  });

  const about = ({ task }: TaskEntry) => ({ task: task.id, service: task.serviceName });

  function setStatus(entry: TaskEntry, state: TaskState, details: StatusDetails = {}): void {
    const next = buildStatus(entry, state, details, clock.now());
    if (sameValue(next, entry.status)) return;
    entry.status = next;
    options.onStatus(entry.task.id, next);
  }

  /** Writes what the next agent finds. A full disk must not stop this one. */
  function saveCheckpoint(entry: TaskEntry, checkpoint: TaskCheckpoint): void {
    entry.checkpoint = checkpoint;
    try {
      runtime.saveCheckpoint(entry.task.id, checkpoint);
    } catch (thrown) {
      log.warn(about(entry), messageOf(thrown));
    }
  }

  /** Without a health check, a task runs when its targets accept clients; with one, also when a probe has succeeded. */
  function onReadiness(entry: TaskEntry, readiness: Readiness, overdue: boolean): void {
    const { problem, missing, accepting, unreachable } = readiness;
    const isFirst = problem === undefined && entry.status.state !== 'running';
    const shouldProbe = isFirst || accepting > entry.accepting;
    entry.accepting = accepting;
    entry.missing = missing;
    entry.unreachable = unreachable;
    if (problem === undefined || entry.status.state === 'running' || isHealthy(entry)) {
      setStatus(entry, 'running', runningDetails(entry));
    } else if (overdue) {
      setStatus(entry, 'starting', { reason: 'PortsNotBound', message: problem });
    } else {
      const required = entry.task.targets.filter(({ ready }) => ready !== false);
      setStatus(entry, 'starting', { reason: 'WaitingForPorts', message: `waiting for ${formatPorts(required)}` });
    }
    if (shouldProbe) prober.bound(entry.task.id);
  }

  function onHealth(entry: TaskEntry, { health, output }: Pick<HealthState, 'health' | 'output'>): void {
    const text = output === '' ? '' : `: ${output}`;
    entry.output = output;
    if (health !== entry.checkpoint?.health) {
      const { output: _, ...rest } = entry.checkpoint ?? { startedAt: clock.now() };
      saveCheckpoint(entry, { ...rest, health, ...(output === '' ? {} : { output }) });
      log.info(about(entry), `${health}${text}`);
    }
    const state = isHealthy(entry) ? 'running' : entry.status.state;
    setStatus(entry, state, state === 'running' ? runningDetails(entry) : currentDetails(entry));
    // The manager drains a running task first; this one never had a connection.
    if (health === 'unhealthy' && state === 'starting') fail(entry, { reason: 'Unhealthy', error: `unhealthy${text}` });
  }

  function stopProcess(entry: TaskEntry): void {
    entry.stopRequested = true;
    prober.stop(entry.task.id);
    runtime.stop(entry.task.id, entry.task.stopGracePeriod);
  }

  function fail(entry: TaskEntry, failure: TaskFailure): void {
    if (entry.stopRequested) return;
    entry.failure = failure;
    entry.cancelTimer?.();
    stopProcess(entry);
  }

  function onStarted(entry: TaskEntry, found: LiveTask): void {
    if (entry.phase === 'ended') return;
    entry.phase = 'live';
    entry.stopRequested ||= found.stopRequested;
    log.info({ ...about(entry), pid: found.pid }, 'task started');
    entry.checkpoint = found.note ?? entry.checkpoint;
    entry.output = entry.checkpoint?.output ?? '';
    setStatus(entry, 'starting', { reason: 'Starting', pid: found.pid });
    if (!entry.stopRequested) prober.start(entry.task, entry.checkpoint);
    advance(entry);
    void reallocatePorts(entry);
    void listenerPoll.start(entry);
  }

  function onEnded(entry: TaskEntry, found: EndedTask): void {
    if (entry.phase === 'ended') return;
    entry.cancelTimer?.();
    prober.stop(entry.task.id);
    entry.phase = 'ended';
    const { state, ...details } =
      entry.failure === undefined
        ? statusFromExit(found, entry.stopRequested, entry.task.stopGracePeriod)
        : { state: 'failed' as const, message: '', ...entry.failure };
    setStatus(entry, state, details);
    const { message, error } = entry.status;
    log.info({ ...about(entry), state, reason: details.reason }, `task ended: ${error || message}`);
    scheduleUnexpose(entry, EXPOSE_AFTER_END);
  }

  function scheduleUnexpose(entry: TaskEntry, delay: number): void {
    entry.cancelTimer = clock.after(delay, () => {
      entry.exposed = false;
      options.onUnexposed(entry.task.id);
      if (!entry.assigned) options.onRemovable(entry.task.id);
    });
  }

  function advance(entry: TaskEntry): void {
    switch (nextAction(entry)) {
      case 'discard':
        entry.phase = 'ended';
        setStatus(entry, 'shutdown', { reason: 'StoppedBeforeStart', message: 'stopped before it was started' });
        scheduleUnexpose(entry, 0);
        return;
      case 'stop':
        stopProcess(entry);
        return;
      case 'remove':
        options.onRemovable(entry.task.id);
        return;
      case undefined:
        return;
    }
  }

  async function launch(entry: TaskEntry): Promise<void> {
    const { task } = entry;
    const starting: StatusDetails = { reason: 'Starting', message: 'starting the process' };
    entry.phase = 'launching';
    setStatus(entry, 'starting', starting);
    try {
      const ports = task.pick === undefined ? [] : await options.allocatePorts(task, []);
      if (closed) return;
      if (!shouldRun(entry)) {
        entry.phase = 'waiting';
        advance(entry);
        return;
      }
      entry.checkpoint = { startedAt: clock.now(), ports };
      setStatus(entry, 'starting', starting);
      const found = await runtime.start({
        task,
        netnsPath: options.netnsPath(task.id),
        environment: { MESH_NODE: options.nodeName() },
        note: entry.checkpoint,
      });
      if (found.state === 'live') onStarted(entry, found);
      else onEnded(entry, found);
    } catch (thrown) {
      if (closed) return; // the next agent starts it
      const exit = { error: messageOf(thrown), at: clock.now() };
      onEnded(entry, { state: 'ended', task, exit, stopRequested: false });
    }
  }

  async function adopt(entry: TaskEntry, found: LiveTask | EndedTask): Promise<void> {
    entry.stopRequested = found.stopRequested;
    if (found.state === 'ended') {
      entry.phase = 'ended';
      entry.exposed = false;
      const { state, ...details } = statusFromExit(found, entry.stopRequested, found.task.stopGracePeriod);
      setStatus(entry, state, { ...details, since: found.exit.at });
      return;
    }
    entry.phase = 'live';
    entry.checkpoint = found.note;
    entry.output = found.note?.output ?? '';
    setStatus(entry, 'starting', { reason: 'Starting', pid: found.pid });
    if (entry.stopRequested) runtime.stop(found.task.id, found.task.stopGracePeriod);
    else prober.start(entry.task, entry.checkpoint);
    await listenerPoll.start(entry);
  }

  function update(entry: TaskEntry, before: AssignedTask): void {
    const { task } = entry;
    if (entry.phase !== 'live' || entry.stopRequested) return;
    if (!sameValue(task.health, before.health)) {
      prober.start(task, entry.checkpoint);
      if (entry.status.state === 'running') prober.bound(task.id);
      setStatus(entry, entry.status.state, currentDetails(entry));
    }
    if (!sameValue(task.targets, before.targets)) void listenerPoll.start(entry);
    void reallocatePorts(entry);
  }

  /** Allocates ports that a running task lacks, and releases those it does not declare any more. */
  async function reallocatePorts(entry: TaskEntry): Promise<void> {
    const { task } = entry;
    const had = entry.checkpoint?.ports ?? [];
    if (areAllocated(task.pick ?? [], had)) return;
    try {
      const ports = await options.allocatePorts(task, had);
      if (closed || entry.task !== task || entry.phase !== 'live') return;
      saveCheckpoint(entry, { startedAt: clock.now(), ...entry.checkpoint, ports });
      setStatus(entry, entry.status.state, currentDetails(entry));
    } catch (thrown) {
      if (!closed) log.error(about(entry), `no host port could be allocated: ${messageOf(thrown)}`);
    }
  }

  return {
    launch,
    adopt,
    onEnded,
    advance,
    update,
    fail,
    wait(entry, why) {
      setStatus(entry, 'assigned', { reason: 'WaitingForNetwork', message: `waiting for its network: ${why}` });
    },
    close() {
      closed = true;
      listenerPoll.close();
      prober.close();
    },
  };
}
