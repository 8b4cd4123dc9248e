import type { Clock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { diff } from '../diff/diff.ts';
import type { Kernel, KernelCounters } from '../kernel/kernel.ts';
import type { Assignment, AssignmentDelta } from '../model/assignment.ts';
import type { KernelObject } from '../model/kernel-state.ts';
import { applyDelta, type KeyedAssignment, keyedAssignment, toAssignment } from '../model/keyed-assignment.ts';
import { HOST_NETNS, LB_NETNS, taskNetns } from '../model/linux-names.ts';
import { renderOp } from '../model/render.ts';
import { portKey } from '../model/spec.ts';
import type { NodeCapabilities } from '../plan/context.ts';
import { plan } from '../plan/plan.ts';
import { fallbackConditions } from '../plan/scheduler.ts';
import type { DispatchConnection } from '../rpc/dispatch-client.ts';
import type { ManagerMessage, NodeDiff, PlanProbe, Question, Welcome } from '../rpc/messages.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { AgentDisk } from './agent-disk.ts';
import { createConditions } from './conditions.ts';
import { createDoctor } from './doctor/doctor.ts';
import { type HealthEndpoint, startHealthEndpoint } from './ports/health-endpoint.ts';
import { nodeHealth } from './ports/health-request.ts';
import { createPortAllocator } from './ports/port-allocator.ts';
import { createPortWatch } from './ports/port-watch.ts';
import { type AssignmentView, createView, updateView } from './reconcile/assignment-view.ts';
import { startAudit } from './reconcile/audit.ts';
import { whyPathsMissing } from './reconcile/missing-paths.ts';
import { createReconciler } from './reconcile/reconciler.ts';
import { createServiceOwners } from './reconcile/service-owners.ts';
import { createBatch } from './session/batch.ts';
import type { History } from './session/history.ts';
import { answerKernelQuery } from './session/kernel-query.ts';
import { type NodeQueries, runQuery } from './session/node-queries.ts';
import { truncateList, truncateSteps } from './session/report-limits.ts';
import { openSession, type Session } from './session/session.ts';
import { createDrainWatch } from './tasks/drain-watch.ts';
import { createTaskSupervisor } from './tasks/task-supervisor.ts';

/*
 * The agent of one node: what the manager assigns becomes kernel objects and tasks, what becomes of them is reported.
 *
 * INVARIANTS
 * - Crash-only: a restarted agent finds kernel objects and tasks as they are, and changes nothing before it has an
 *   assignment: the manager's, or, when no manager answers for a while, the last one on disk.
 * - Losing the manager changes nothing in the kernel and ends no task.
 * - Level-triggered: each session begins with all task statuses from here and the whole assignment from there.
 */

export interface AgentOptions {
  kernel: Kernel;
  runtime: Runtime;
  disk: AgentDisk;
  history: History;
  clock: Clock;
  log: Log;
  random(): number;
  capabilities: NodeCapabilities;
  name: string;
  /** Where other nodes send VXLAN to. */
  underlay: string;
  role: 'manager' | 'worker';
  labels: Record<string, string>;
  version: string;
  kernelRelease: string;
  /** Managers: `host:port`, or the path of a unix socket. */
  managers: readonly string[];
  connect(address: string): DispatchConnection;
  /** Told the number of ports before the work for a whole assignment begins. */
  onAssignment?(ports: number): void;
  /** Where balancers ask for this node's health, `ADDRESS:PORT`; undefined for nowhere. */
  healthListen?: string | undefined;
  /** Where this meshd keeps its files, for the doctor to look at; undefined for nowhere. */
  stateDir?: string;
  /** What the node can be asked beside its kernel objects. */
  queries?: NodeQueries;
}

interface AgentInfo {
  nodeId: string;
  /** Newest assignment the kernel holds; 0 before the first. */
  revision: number;
  /** The manager it is connected to. */
  manager: string | undefined;
  kernelObjects: number;
  counters: KernelCounters & { repairs: number };
  conditions: string[];
}

export interface Agent {
  start(): Promise<void>;
  /** Ends the session and all watching; kernel objects and tasks stay. */
  stop(): Promise<void>;
  info(): AgentInfo;
  /** Want against a fresh look at the kernel, in CLI words. */
  diff(): Promise<NodeDiff>;
  /** What the kernel should hold, for the driver that has to know what to look for. */
  want(): ReadonlyMap<string, KernelObject>;
}

/** How long to wait for a manager before the assignment on disk is taken, ms. */
const MANAGER_TIMEOUT = 5_000;

export function createAgent(options: AgentOptions): Agent {
  const { kernel, runtime, disk, history, clock, log, capabilities } = options;
  const serviceOwners = createServiceOwners();
  /** The manager's word, or the disk's while there is none. */
  let assigned: KeyedAssignment | undefined;
  let view: AssignmentView['assignment'] | undefined;
  let fromManager = false;
  let usingSavedAssignment = false;
  let applied = { revision: 0, failures: [] as string[] };
  let session: Session | undefined;
  let startedAt = 0;
  let stopWatch = () => {};
  let stopAudit = () => {};
  let healthEndpoint: HealthEndpoint | undefined;

  const assignedPorts = () => [...(assigned?.ports.values() ?? [])];

  const conditions = createConditions(() => {
    session?.send({ case: 'conditions', value: { conditions: truncateList(conditions.list()) } });
  });

  const reconciler = createReconciler({
    kernel,
    clock,
    log,
    conditions,
    onApplied(revision, failures) {
      applied = { revision, failures: truncateList(failures) };
      if (fromManager) session?.send({ case: 'ack', value: applied });
      tasks.startReady((taskId) => whyPathsMissing(taskId, reconciler));
    },
    onNetnsCreated: (netns) => tasks.onNetnsCreated(netns),
    onChanged: (applyDelta, ops) => history.add({ ...applyDelta, services: serviceOwners.servicesOf(ops) }),
  });

  const statuses = createBatch(clock, (ids) => {
    const changed = new Set(ids);
    const reports = tasks.statuses().filter(({ taskId }) => changed.has(taskId));
    if (reports.length > 0) session?.send({ case: 'tasks', value: { tasks: reports } });
  });

  const tasks = createTaskSupervisor({
    runtime,
    clock,
    random: options.random,
    log,
    nodeName: () => options.name,
    netnsPath: (taskId) => kernel.netnsPath(taskNetns(taskId)),
    listeners: (taskId) => reconciler.runExclusive(() => kernel.listeners(taskNetns(taskId))),
    allocatePorts: createPortAllocator({
      listeners: () => reconciler.runExclusive(() => kernel.listeners(HOST_NETNS)),
      assigned: assignedPorts,
      allocated: () => tasks.allocatedPorts(),
    }),
    onStatus: (taskId) => statuses.add(taskId),
    onUnexposed: (taskId) => change({ removedTasks: [taskId] }),
    onRemovable: (taskId) => void removeTask(taskId),
  });

  const drains = createDrainWatch({
    clock,
    connections: (fwmarks) => reconciler.runExclusive(() => kernel.connections(LB_NETNS, fwmarks)),
    report(endpoints) {
      session?.send({ case: 'connections', value: { revision: applied.revision, endpoints } });
    },
  });

  const portWatch = createPortWatch({
    clock,
    log,
    sockets: () => reconciler.runExclusive(() => kernel.listeners(HOST_NETNS)),
    owners: (inodes) => kernel.socketOwners(inodes),
    pid: process.pid,
    ports: assignedPorts,
    checks: [(ports) => fallbackConditions(ports, capabilities.schedulers)],
    onListeners: () => sendListeners(),
    onConditions: () => sendPortConditions(),
    onWithheld: (released, withheld) => change({ ports: released, removedPorts: withheld }),
  });

  const sendListeners = () => session?.send({ case: 'listeners', value: { listeners: portWatch.listeners() } });
  const sendPortConditions = () =>
    session?.send({ case: 'portConditions', value: { conditions: portWatch.conditions() } });

  const saveAssignment = (kept: KeyedAssignment) => disk.saveAssignment(() => toAssignment(kept));

  async function removeTask(taskId: string): Promise<void> {
    try {
      if (assigned !== undefined) saveAssignment(assigned);
      await disk.flush();
      await runtime.remove(taskId);
      tasks.remove(taskId);
    } catch (thrown) {
      log.warn({ task: taskId }, `the files of an ended task stay for now: ${messageOf(thrown)}`);
    }
  }

  function applyAssignment(assignment: Assignment): void {
    options.onAssignment?.(assignment.ports.length);
    assigned = keyedAssignment(assignment);
    serviceOwners.update(assignment.ports, assignment.tasks);
    const ports = portWatch.filterPublishable(assignment.ports);
    const whole = createView({ ...assignment, ports }, tasks.exposed(), capabilities);
    view = whole.assignment;
    reconciler.setDesired(whole.want, assignment.revision);
    drains.clear();
    drains.update(assignment.ports, []);
    portWatch.portsChanged();
  }

  function change(delta: Partial<AssignmentDelta>): void {
    if (view === undefined) return;
    const { had, want } = updateView(view, delta, (id) => tasks.exposedTask(id), capabilities);
    reconciler.patchDesired(had, want, view.revision);
  }

  function onSnapshot(assignment: Assignment): void {
    if (fromManager && assigned !== undefined && assignment.revision < assigned.revision) {
      log.error(
        { ours: assigned.revision, manager: assignment.revision },
        "the manager's state is older than what this node holds: its store was rolled back or restored from a backup. Following it.",
      );
    }
    fromManager = true;
    tasks.assignAll(assignment.tasks);
    applyAssignment(assignment);
    if (assigned !== undefined) saveAssignment(assigned);
    reconciler.start();
    conditions.clear('manager');
  }

  function onDelta(delta: AssignmentDelta): void {
    if (assigned === undefined || !fromManager) throw new MeshError('conflict', 'a delta came before a snapshot');
    const done = applyDelta(assigned, delta);
    if (!done.ok) throw done.error;
    serviceOwners.update(delta.ports, delta.tasks);
    tasks.assign(delta.tasks, delta.removedTasks);
    const ports = portWatch.filterPublishable(delta.ports);
    const kept = delta.ports.filter((port) => !ports.includes(port)).map(portKey);
    change({ ...delta, ports, removedPorts: [...delta.removedPorts, ...kept] });
    if (delta.ports.length + delta.removedPorts.length > 0) portWatch.portsChanged();
    drains.update(delta.ports, delta.removedPorts);
    saveAssignment(assigned);
  }

  async function onWelcome({ clusterId, nodeId }: Welcome): Promise<void> {
    const known = disk.identity();
    if (known !== undefined && known.clusterId !== clusterId) {
      const text = `this node belongs to cluster ${known.clusterId}, the manager to ${clusterId}: give the right --join, or move the node with \`meshd reset --purge\``;
      conditions.raise('cluster', text);
      throw new MeshError('conflict', text);
    }
    conditions.clear('cluster');
    if (known?.nodeId !== nodeId || known.name !== options.name) {
      if (known !== undefined && known.nodeId !== nodeId)
        log.warn({ was: known.nodeId, now: nodeId }, 'this node has a new id');
      await disk.saveIdentity({ clusterId, nodeId, name: options.name });
    }
    log.info({ clusterId, nodeId }, 'connected to the manager');
    session?.send({ case: 'conditions', value: { conditions: truncateList(conditions.list()) } });
    sendListeners();
    sendPortConditions();
  }

  function onMessage(message: Exclude<NonNullable<ManagerMessage['message']>, { case: 'welcome' }>): void {
    switch (message.case) {
      case 'snapshot':
        onSnapshot(message.value);
        break;
      case 'delta':
        onDelta(message.value);
        break;
      case 'probe':
        void answerProbe(message.value);
        break;
      case 'question':
        void answerQuery(message.value);
    }
  }

  async function answerProbe(probe: PlanProbe): Promise<void> {
    const { probeId, assignment } = probe;
    const reply = await diffAgainst(() => {
      if (assignment === undefined) throw new MeshError('invalid', 'the probe holds no assignment');
      const endedTasks = new Set(
        [...(assigned?.tasks.keys() ?? [])].filter((id) => tasks.exposedTask(id) === undefined),
      );
      const ports = assignment.ports.filter(portWatch.isPublishable);
      return plan(
        { ...assignment, ports, tasks: assignment.tasks.filter(({ id }) => !endedTasks.has(id)) },
        capabilities,
      );
    });
    session?.send({ case: 'plan', value: reply }, probeId);
  }

  async function answerQuery({ questionId, kind, argument }: Question): Promise<void> {
    for (const piece of await runQuery(queries, kind, argument)) {
      session?.send({ case: 'answer', value: { questionId, ...piece } });
    }
  }

  const queries: NodeQueries = {
    ...options.queries,
    doctor: createDoctor({
      kernel,
      clock,
      capabilities,
      underlay: options.underlay,
      version: options.version,
      stateDir: options.stateDir,
      assignment: () => assigned && toAssignment(assigned),
      have: () => reconciler.have(),
      diff: () => diffAgainst(() => reconciler.want()),
      conditions: () => conditions.list().map((text) => ({ code: text, params: {} })),
      portConditions: () => portWatch.conditions(),
    }),
    history: (argument) => history.query(argument),
    kernel: (argument) =>
      answerKernelQuery(argument, applied.revision, () => reconciler.runExclusive(() => kernel.observe())),
  };

  /** The steps from what the kernel holds now to a wish. */
  async function diffAgainst(desired: () => ReadonlyMap<string, KernelObject>): Promise<NodeDiff> {
    const about = { nodeId: disk.identity()?.nodeId ?? '', nodeName: options.name, revision: applied.revision };
    try {
      const have = await reconciler.runExclusive(() => kernel.observe());
      return { ...about, steps: truncateSteps(diff(have, desired()).flatMap(renderOp)), error: '' };
    } catch (thrown) {
      return { ...about, steps: [], error: messageOf(thrown) };
    }
  }

  function onUnreachable(reason: string): void {
    conditions.raise('manager', `no manager answers (${reason}); this node goes on with what it was last told`);
    if (usingSavedAssignment || fromManager || assigned === undefined) return;
    if (clock.monotonic() - startedAt < MANAGER_TIMEOUT) return;
    usingSavedAssignment = true;
    log.warn({ revision: assigned.revision }, 'no manager answers: going on with the assignment on disk');
    reconciler.start();
  }

  return {
    async start() {
      startedAt = clock.monotonic();
      const found = await runtime.recover();
      const kept = disk.assignment();
      await tasks.adopt(found);
      // Before anything is published: a port that sshd listens on is never taken.
      await portWatch.start();
      if (kept !== undefined) {
        // The disk may lag behind, so it has no say about tasks it does not know.
        tasks.assign(kept.tasks, []);
        applyAssignment(kept);
      }
      log.info({ tasks: found.length, revision: kept?.revision ?? 0 }, 'agent adopts what is here');
      stopWatch = kernel.watch((scope, by) => reconciler.recheck(scope, by));
      stopAudit = startAudit(clock, (scope) => reconciler.audit(scope)).stop;
      const view = () =>
        nodeHealth(
          assigned && toAssignment(assigned),
          portWatch.isPublishable,
          applied.revision,
          conditions.get('kernel'),
        );
      if (options.healthListen !== undefined)
        healthEndpoint = startHealthEndpoint({ listen: options.healthListen, health: view, conditions, clock, log });
      session = openSession({
        addresses: options.managers,
        connect: options.connect,
        hello: () => ({
          name: options.name,
          nodeId: disk.identity()?.nodeId ?? '',
          underlay: options.underlay,
          labels: options.labels,
          version: options.version,
          kernelRelease: options.kernelRelease,
          role: options.role,
          tasks: tasks.statuses(),
        }),
        onWelcome,
        onMessage,
        onUnreachable,
        clock,
        random: options.random,
        log,
      });
    },
    async stop() {
      session?.stop();
      healthEndpoint?.stop();
      stopAudit();
      stopWatch();
      statuses.stop();
      drains.stop();
      portWatch.stop();
      tasks.close();
      runtime.close();
      await reconciler.stop();
      await history.flush();
      if (assigned !== undefined) await disk.flush().catch((thrown) => log.error(messageOf(thrown)));
    },
    info: () => ({
      nodeId: disk.identity()?.nodeId ?? '',
      revision: applied.revision,
      manager: session?.manager(),
      kernelObjects: reconciler.have().size,
      counters: { ...kernel.counters(), repairs: reconciler.repairs() },
      conditions: conditions.list(),
    }),
    diff: () => diffAgainst(() => reconciler.want()),
    want: () => reconciler.want(),
  };
}
