import type { Clock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { diff } from '../diff/diff.ts';
import type { Kernel, KernelCounters } from '../kernel/kernel.ts';
import type { Assignment, AssignmentDelta } from '../model/assignment.ts';
import type { KernelObject } from '../model/kernel-state.ts';
import { assignmentOf, changeAssignment, type KeyedAssignment, keyedAssignment } from '../model/keyed-assignment.ts';
import { HOST_NETNS, LB_NETNS, taskNetns } from '../model/names.ts';
import { renderOp } from '../model/render.ts';
import { portKey } from '../model/spec.ts';
import type { Facts } from '../plan/context.ts';
import { plan } from '../plan/plan.ts';
import { fallbacks } from '../plan/scheduler.ts';
import { assignmentFromWire, deltaFromWire } from '../rpc/convert-assignment.ts';
import { taskReportToWire } from '../rpc/convert-cluster.ts';
import type { DispatchConnection } from '../rpc/dispatch-client.ts';
import type { ManagerMessage, NodeDiff, PlanProbe, Question, Welcome } from '../rpc/gen/mesh.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { type AssignmentView, changeView, wholeView } from './assignment-view.ts';
import { startAudit } from './audit.ts';
import { boundedList, boundedSteps } from './bounds.ts';
import { createConditions } from './conditions.ts';
import type { AgentDisk } from './disk.ts';
import { createDoctor } from './doctor/doctor.ts';
import { createDrainWatch } from './drain.ts';
import { type HealthEndpoint, startHealthEndpoint } from './health-endpoint.ts';
import type { History } from './history.ts';
import { kernelAnswer } from './kernel-question.ts';
import { missingPaths } from './missing-paths.ts';
import { createOwners } from './owners.ts';
import { nodeView } from './port-answer.ts';
import { createPortPicker } from './port-picker.ts';
import { createPortWatch } from './port-watch.ts';
import { answersOf, type Questions } from './questions.ts';
import { createReconciler } from './reconcile.ts';
import { createBatch } from './reports.ts';
import { openSession, type Session } from './session.ts';
import { createTaskKeeper } from './tasks.ts';

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
  facts: Facts;
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
  expect?(ports: number): void;
  /** Where balancers ask for this node's health, `ADDRESS:PORT`; undefined for nowhere. */
  healthListen?: string | undefined;
  /** Where this meshd keeps its files, for the doctor to look at; undefined for nowhere. */
  stateDir?: string;
  /** What the node can be asked beside its kernel objects. */
  questions?: Questions;
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
const MANAGER_PATIENCE = 5_000;

export function createAgent(options: AgentOptions): Agent {
  const { kernel, runtime, disk, history, clock, log, facts } = options;
  const owners = createOwners();
  /** The manager's word, or the disk's while there is none. */
  let assigned: KeyedAssignment | undefined;
  let view: AssignmentView['assignment'] | undefined;
  let fromManager = false;
  let onOurOwn = false;
  let settled = { revision: 0, failures: [] as string[] };
  let session: Session | undefined;
  let startedAt = 0;
  let stopWatch = () => {};
  let stopAudit = () => {};
  let health: HealthEndpoint | undefined;

  const assignedPorts = () => [...(assigned?.ports.values() ?? [])];

  const conditions = createConditions(() => {
    session?.send({ $case: 'conditions', value: { conditions: boundedList(conditions.list()) } });
  });

  const reconciler = createReconciler({
    kernel,
    clock,
    log,
    conditions,
    onSettled(revision, failures) {
      settled = { revision, failures: boundedList(failures) };
      if (fromManager) session?.send({ $case: 'ack', value: settled });
      tasks.advance((taskId) => missingPaths(taskId, reconciler));
    },
    onNetnsMade: (netns) => tasks.netnsMade(netns),
    onChanged: (change, ops) => history.add({ ...change, services: owners.of(ops) }),
  });

  const statuses = createBatch(clock, (ids) => {
    const changed = new Set(ids);
    const reports = tasks.statuses().filter(({ taskId }) => changed.has(taskId));
    if (reports.length > 0) session?.send({ $case: 'tasks', value: { tasks: reports.map(taskReportToWire) } });
  });

  const tasks = createTaskKeeper({
    runtime,
    clock,
    random: options.random,
    log,
    nodeName: () => options.name,
    netnsPath: (taskId) => kernel.netnsPath(taskNetns(taskId)),
    listeners: (taskId) => reconciler.look(() => kernel.listeners(taskNetns(taskId))),
    pick: createPortPicker({
      listeners: () => reconciler.look(() => kernel.listeners(HOST_NETNS)),
      assigned: assignedPorts,
      picked: () => tasks.picked(),
    }),
    onStatus: (taskId) => statuses.add(taskId),
    onHidden: (taskId) => change({ removedTasks: [taskId] }),
    onForgotten: (taskId) => void forget(taskId),
  });

  const drains = createDrainWatch({
    clock,
    connections: (fwmarks) => reconciler.look(() => kernel.connections(LB_NETNS, fwmarks)),
    report(endpoints) {
      session?.send({ $case: 'connections', value: { revision: settled.revision, endpoints } });
    },
  });

  const portWatch = createPortWatch({
    clock,
    log,
    sockets: () => reconciler.look(() => kernel.listeners(HOST_NETNS)),
    owners: (inodes) => kernel.socketOwners(inodes),
    pid: process.pid,
    ports: assignedPorts,
    judges: [(ports) => fallbacks(ports, facts.schedulers)],
    onListeners: () => tellListeners(),
    onConditions: () => tellPortConditions(),
    onWithheld: (released, withheld) => change({ ports: released, removedPorts: withheld }),
  });

  const tellListeners = () => session?.send({ $case: 'listeners', value: { listeners: portWatch.listeners() } });
  const tellPortConditions = () =>
    session?.send({ $case: 'portConditions', value: { conditions: portWatch.conditions() } });

  const keepOnDisk = (kept: KeyedAssignment) => disk.saveAssignment(() => assignmentOf(kept));

  async function forget(taskId: string): Promise<void> {
    try {
      if (assigned !== undefined) keepOnDisk(assigned);
      await disk.flush();
      await runtime.remove(taskId);
      tasks.forget(taskId);
    } catch (thrown) {
      log.warn({ task: taskId }, `the files of an ended task stay for now: ${messageOf(thrown)}`);
    }
  }

  function take(assignment: Assignment): void {
    options.expect?.(assignment.ports.length);
    assigned = keyedAssignment(assignment);
    owners.learn(assignment.ports, assignment.tasks);
    const ports = portWatch.offered(assignment.ports);
    const whole = wholeView({ ...assignment, ports }, tasks.shown(), facts);
    view = whole.assignment;
    reconciler.replace(whole.want, assignment.revision);
    drains.clear();
    drains.update(assignment.ports, []);
    portWatch.portsChanged();
  }

  function change(delta: Partial<AssignmentDelta>): void {
    if (view === undefined) return;
    const { had, want } = changeView(view, delta, (id) => tasks.shownTask(id), facts);
    reconciler.patch(had, want, view.revision);
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
    take(assignment);
    if (assigned !== undefined) keepOnDisk(assigned);
    reconciler.release();
    conditions.clear('manager');
  }

  function onDelta(delta: AssignmentDelta): void {
    if (assigned === undefined || !fromManager) throw new MeshError('conflict', 'a delta came before a snapshot');
    const done = changeAssignment(assigned, delta);
    if (!done.ok) throw done.error;
    owners.learn(delta.ports, delta.tasks);
    tasks.assign(delta.tasks, delta.removedTasks);
    const ports = portWatch.offered(delta.ports);
    const kept = delta.ports.filter((port) => !ports.includes(port)).map(portKey);
    change({ ...delta, ports, removedPorts: [...delta.removedPorts, ...kept] });
    if (delta.ports.length + delta.removedPorts.length > 0) portWatch.portsChanged();
    drains.update(delta.ports, delta.removedPorts);
    keepOnDisk(assigned);
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
    session?.send({ $case: 'conditions', value: { conditions: boundedList(conditions.list()) } });
    tellListeners();
    tellPortConditions();
  }

  function onMessage(message: Exclude<NonNullable<ManagerMessage['message']>, { $case: 'welcome' }>): void {
    switch (message.$case) {
      case 'snapshot':
        onSnapshot(assignmentFromWire(message.value));
        break;
      case 'delta':
        onDelta(deltaFromWire(message.value));
        break;
      case 'probe':
        void answer(message.value);
        break;
      case 'question':
        void answerQuestion(message.value);
    }
  }

  async function answer(probe: PlanProbe): Promise<void> {
    const { probeId } = probe;
    const reply = await stepsTo(() => {
      if (probe.assignment === undefined) throw new MeshError('invalid', 'the probe holds no assignment');
      const assignment = assignmentFromWire(probe.assignment);
      const over = new Set([...(assigned?.tasks.keys() ?? [])].filter((id) => tasks.shownTask(id) === undefined));
      const ports = assignment.ports.filter(portWatch.takes);
      return plan({ ...assignment, ports, tasks: assignment.tasks.filter(({ id }) => !over.has(id)) }, facts);
    });
    session?.send({ $case: 'plan', value: reply }, probeId);
  }

  async function answerQuestion({ questionId, kind, argument }: Question): Promise<void> {
    for (const piece of await answersOf(questions, kind, argument)) {
      session?.send({ $case: 'answer', value: { questionId, ...piece } });
    }
  }

  const questions: Questions = {
    ...options.questions,
    doctor: createDoctor({
      kernel,
      clock,
      facts,
      underlay: options.underlay,
      version: options.version,
      stateDir: options.stateDir,
      assignment: () => assigned && assignmentOf(assigned),
      have: () => reconciler.have(),
      diff: () => stepsTo(() => reconciler.want()),
      conditions: () => conditions.list(),
      portConditions: () => portWatch.conditions(),
    }),
    history: (argument) => history.answer(argument),
    kernel: (argument) => kernelAnswer(argument, settled.revision, () => reconciler.look(() => kernel.observe())),
  };

  /** The steps from what the kernel holds now to a wish. */
  async function stepsTo(wish: () => ReadonlyMap<string, KernelObject>): Promise<NodeDiff> {
    const about = { nodeId: disk.identity()?.nodeId ?? '', nodeName: options.name, revision: settled.revision };
    try {
      const have = await reconciler.look(() => kernel.observe());
      return { ...about, steps: boundedSteps(diff(have, wish()).flatMap(renderOp)), error: '' };
    } catch (thrown) {
      return { ...about, steps: [], error: messageOf(thrown) };
    }
  }

  function onUnreachable(reason: string): void {
    conditions.raise('manager', `no manager answers (${reason}); this node goes on with what it was last told`);
    if (onOurOwn || fromManager || assigned === undefined) return;
    if (clock.monotonic() - startedAt < MANAGER_PATIENCE) return;
    onOurOwn = true;
    log.warn({ revision: assigned.revision }, 'no manager answers: going on with the assignment on disk');
    reconciler.release();
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
        take(kept);
      }
      log.info({ tasks: found.length, revision: kept?.revision ?? 0 }, 'agent adopts what is here');
      stopWatch = kernel.watch((scope, by) => reconciler.suspect(scope, by));
      stopAudit = startAudit(clock, (scope) => reconciler.check(scope)).stop;
      const view = () =>
        nodeView(assigned && assignmentOf(assigned), portWatch.takes, settled.revision, conditions.get('kernel'));
      if (options.healthListen !== undefined)
        health = startHealthEndpoint({ listen: options.healthListen, view, conditions, clock, log });
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
          tasks: tasks.statuses().map(taskReportToWire),
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
      health?.stop();
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
      revision: settled.revision,
      manager: session?.manager(),
      kernelObjects: reconciler.have().size,
      counters: { ...kernel.counters(), repairs: reconciler.repairs() },
      conditions: conditions.list(),
    }),
    diff: () => stepsTo(() => reconciler.want()),
    want: () => reconciler.want(),
  };
}
