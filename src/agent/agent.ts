import type { Clock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Kernel, KernelCounters } from '../kernel/kernel.ts';
import type { Assignment } from '../model/assignment.ts';
import { type Condition, isKernelCondition } from '../model/condition.ts';
import type { KernelObject } from '../model/kernel-state.ts';
import { HOST_NETNS, LB_NETNS, taskNetns } from '../model/names.ts';
import type { NodeCapabilities } from '../plan/context.ts';
import { plan } from '../plan/plan.ts';
import { fallbackConditions } from '../plan/scheduler.ts';
import type { DispatchConnection } from '../rpc/dispatch-client.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { AgentDisk } from './agent-disk.ts';
import { createConditions } from './conditions.ts';
import { createDoctor } from './doctor/doctor.ts';
import { createHealthEndpoint } from './ports/health-endpoint.ts';
import { nodeHealth } from './ports/health-request.ts';
import { createPortAllocator } from './ports/port-allocator.ts';
import { createPortWatch } from './ports/port-watch.ts';
import { createAssignmentFollower } from './reconcile/assignment-follower.ts';
import { startAudit } from './reconcile/audit.ts';
import { createCurrentAssignment } from './reconcile/current-assignment.ts';
import { whyPathsMissing } from './reconcile/missing-paths.ts';
import { createPlanComparison } from './reconcile/plan-result.ts';
import { createReconciler } from './reconcile/reconciler.ts';
import { decideIdentity } from './session/cluster-identity.ts';
import type { History } from './session/history.ts';
import type { AssignmentMessage, PlanResult, WelcomeMessage } from './session/messages.ts';
import { type NodeQueries, runQuery } from './session/node-queries.ts';
import { createReportBatch } from './session/report-batch.ts';
import { createSession } from './session/session.ts';
import { createDrainWatch } from './tasks/drain-watch.ts';
import { createTaskSupervisor } from './tasks/task-supervisor.ts';

/*
 * The agent of one node: turns its assignment into kernel objects and tasks, and reports their state. This file only
 * connects the parts; README.md lists them.
 *
 * INVARIANTS
 * - Crash-only: a restarted agent adopts the existing kernel state and tasks, and changes nothing before it has an
 *   assignment: from the manager or, when none is reachable for a while, the last one on disk.
 * - Losing the manager changes nothing in the kernel and stops no task.
 * - Level-triggered: each session begins with the status of every task and the whole assignment.
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
  /** Address to which other nodes send VXLAN. */
  underlay: string;
  role: 'manager' | 'worker';
  labels: Record<string, string>;
  version: string;
  kernelRelease: string;
  /** Managers: `host:port`, or the path of a unix socket. */
  managers: readonly string[];
  connect(address: string): DispatchConnection;
  /** Called with the number of ports before a whole assignment is planned. */
  onAssignment?(ports: number): void;
  /** `ADDRESS:PORT` of the health endpoint for external load balancers; undefined for none. */
  healthListen?: string | undefined;
  /** Directory for persistent state, which the doctor checks; undefined to skip that. */
  stateDir?: string;
  /** Questions the node answers beside its own. */
  queries?: NodeQueries;
}

interface AgentInfo {
  nodeId: string;
  /** Newest assignment the kernel holds; 0 before the first. */
  revision: number;
  /** Address of the manager it is connected to. */
  manager: string | undefined;
  kernelObjects: number;
  counters: KernelCounters & { repairs: number };
  conditions: Condition[];
}

export interface Agent {
  start(): Promise<void>;
  /** Ends the session and all watching; kernel objects and tasks stay. */
  stop(): Promise<void>;
  info(): AgentInfo;
  /** Operations from the observed to the desired kernel state, in the words of iproute2 and ipvsadm. */
  diff(): Promise<PlanResult>;
  /** The desired kernel state, which tells the driver what to observe. */
  want(): ReadonlyMap<string, KernelObject>;
}

export function createAgent(options: AgentOptions): Agent {
  const { kernel, runtime, disk, history, clock, log, capabilities } = options;
  /** The newest revision that the kernel holds, and what it rejected of it. */
  let applied = { revision: 0, failures: [] as string[] };
  let stopWatching = () => {};
  const nodeId = () => disk.identity()?.nodeId ?? '';
  const hostListeners = () => reconciler.runExclusive(() => kernel.listeners(HOST_NETNS));

  const conditions = createConditions(() => sendConditions());

  const reconciler = createReconciler({
    kernel,
    clock,
    log,
    conditions,
    onApplied(revision, failures) {
      applied = { revision, failures };
      if (follower.source() === 'manager') session.send({ kind: 'applied', ...applied });
      tasks.startReady((taskId) => whyPathsMissing(taskId, reconciler));
    },
    onNetnsCreated: (netns) => tasks.onNetnsCreated(netns),
    onChanged: (change, ops) => history.add({ ...change, services: current.servicesOf(ops) }),
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
      listeners: hostListeners,
      assigned: () => current.ports(),
      allocated: () => tasks.allocatedPorts(),
    }),
    onStatus: (taskId) => changedTasks.add(taskId),
    onUnexposed: (taskId) => current.replan({ removedTasks: [taskId] }),
    onRemovable: (taskId) => void removeTask(taskId),
  });

  const changedTasks = createReportBatch(clock, (ids) => {
    const changed = new Set(ids);
    const reports = tasks.statuses().filter(({ taskId }) => changed.has(taskId));
    if (reports.length > 0) session.send({ kind: 'tasks', reports });
  });

  const drains = createDrainWatch({
    clock,
    connections: (fwmarks) => reconciler.runExclusive(() => kernel.connections(LB_NETNS, fwmarks)),
    report: (endpoints) => session.send({ kind: 'connections', revision: applied.revision, endpoints }),
  });

  const portWatch = createPortWatch({
    clock,
    log,
    sockets: hostListeners,
    owners: (inodes) => kernel.socketOwners(inodes),
    pid: process.pid,
    ports: () => current.ports(),
    checks: [(ports) => fallbackConditions(ports, capabilities.schedulers)],
    onListeners: () => sendListeners(),
    onConditions: () => sendPortConditions(),
    onWithheld: (released, withheld) => current.replan({ ports: released, removedPorts: withheld }),
  });

  const current = createCurrentAssignment({ capabilities, reconciler, tasks, ports: portWatch });
  const { onAssignment } = options;
  const shared = { current, reconciler, tasks, drains, portWatch, disk, conditions, clock, log };
  const follower = createAssignmentFollower({ ...shared, onAssignment });
  const comparePlan = createPlanComparison({
    kernel,
    reconciler,
    node: () => ({ nodeId: nodeId(), nodeName: options.name, revision: applied.revision }),
  });

  const sendConditions = () => session.send({ kind: 'conditions', conditions: conditions.list() });
  const sendListeners = () => session.send({ kind: 'listeners', listeners: portWatch.listeners() });
  const sendPortConditions = () => session.send({ kind: 'portConditions', conditions: portWatch.conditions() });

  const session = createSession({
    addresses: options.managers,
    connect: options.connect,
    introduce: () => ({
      name: options.name,
      nodeId: nodeId(),
      underlay: options.underlay,
      labels: options.labels,
      version: options.version,
      kernelRelease: options.kernelRelease,
      role: options.role,
      tasks: tasks.statuses(),
    }),
    onWelcome,
    onMessage,
    onUnreachable: (reason) => follower.onUnreachable(reason),
    clock,
    random: options.random,
    log,
  });

  const queries: NodeQueries = {
    ...options.queries,
    doctor: createDoctor({
      kernel,
      clock,
      capabilities,
      underlay: options.underlay,
      version: options.version,
      stateDir: options.stateDir,
      assignment: () => current.assignment(),
      have: () => reconciler.have(),
      diff: () => comparePlan(() => reconciler.want()),
      conditions: () => conditions.list(),
      portConditions: () => portWatch.conditions(),
    }),
    history: (argument) => history.query(argument),
    // Loaded with the first question: the schemas cost memory that an idle daemon does not need.
    kernel: async (argument) =>
      (await import('./session/kernel-query.ts')).answerKernelQuery(argument, applied.revision, () =>
        reconciler.runExclusive(() => kernel.observe()),
      ),
  };

  const healthEndpoint =
    options.healthListen === undefined
      ? undefined
      : createHealthEndpoint({
          listen: options.healthListen,
          health: () =>
            nodeHealth(
              current.assignment(),
              portWatch.isPublishable,
              applied.revision,
              conditions.list().filter(isKernelCondition),
            ),
          conditions,
          clock,
          log,
        });

  async function onWelcome({ clusterId, nodeId }: WelcomeMessage): Promise<void> {
    const decision = decideIdentity(disk.identity(), { clusterId, nodeId, name: options.name });
    if (decision.kind === 'rejected') {
      conditions.raise(decision.condition);
      throw decision.error;
    }
    conditions.clear('ClusterMismatch');
    if (decision.kind === 'changed') {
      const { previous, identity } = decision;
      if (previous !== undefined) log.warn({ previous, nodeId }, 'the manager assigned a new id to this node');
      await disk.saveIdentity(identity);
    }
    log.info({ clusterId, nodeId }, 'connected to the manager');
    sendConditions();
    sendListeners();
    sendPortConditions();
  }

  function onMessage(message: AssignmentMessage): void {
    switch (message.kind) {
      case 'snapshot':
        follower.onSnapshot(message.assignment);
        return;
      case 'delta':
        follower.onDelta(message.delta);
        return;
      case 'planRequest':
        void answerPlanRequest(message.requestId, message.assignment);
        return;
      case 'question':
        void answerQuestion(message.questionId, message.question, message.argument);
    }
  }

  async function answerPlanRequest(requestId: number, assignment: Assignment | undefined): Promise<void> {
    const result = await comparePlan(() => {
      if (assignment === undefined) throw new MeshError('invalid', 'the plan request has no assignment');
      return plan(withLocalState(assignment), capabilities);
    });
    session.send({ kind: 'plan', requestId, result });
  }

  /** Without the ports that this node may not publish, and the tasks that have ended here. */
  function withLocalState(assignment: Assignment): Assignment {
    const ended = new Set(current.taskIds().filter((id) => tasks.exposedTask(id) === undefined));
    return {
      ...assignment,
      ports: assignment.ports.filter(portWatch.isPublishable),
      tasks: assignment.tasks.filter(({ id }) => !ended.has(id)),
    };
  }

  async function answerQuestion(questionId: number, question: string, argument: string): Promise<void> {
    for (const chunk of await runQuery(queries, question, argument))
      session.send({ kind: 'answer', questionId, chunk });
  }

  async function removeTask(taskId: string): Promise<void> {
    try {
      follower.save();
      await disk.flush();
      await runtime.remove(taskId);
      tasks.remove(taskId);
    } catch (thrown) {
      log.warn({ task: taskId }, `the files of an ended task cannot be removed yet: ${messageOf(thrown)}`);
    }
  }

  return {
    async start() {
      const found = await runtime.recover();
      await tasks.adopt(found);
      // Before anything is published: a port that sshd listens on is never published.
      await portWatch.start();
      const saved = disk.assignment();
      follower.load(saved);
      log.info({ tasks: found.length, revision: saved?.revision ?? 0 }, 'adopted existing kernel state and tasks');
      const stopEvents = kernel.watch((scope, by) => reconciler.recheck(scope, by));
      const audit = startAudit(clock, (scope) => reconciler.audit(scope));
      stopWatching = () => {
        stopEvents();
        audit.stop();
      };
      healthEndpoint?.start();
      session.start();
    },
    async stop() {
      session.stop();
      healthEndpoint?.stop();
      stopWatching();
      changedTasks.stop();
      drains.stop();
      portWatch.stop();
      tasks.close();
      runtime.close();
      await reconciler.stop();
      await history.flush();
      if (current.isKnown()) await disk.flush().catch((thrown) => log.error(messageOf(thrown)));
    },
    info: () => ({
      nodeId: nodeId(),
      revision: applied.revision,
      manager: session.manager(),
      kernelObjects: reconciler.have().size,
      counters: { ...kernel.counters(), repairs: reconciler.repairs() },
      conditions: conditions.list(),
    }),
    diff: () => comparePlan(() => reconciler.want()),
    want: () => reconciler.want(),
  };
}
