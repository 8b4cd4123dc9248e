import { messageOf } from '../base/errors.ts';
import { coversKind } from '../kernel/kernel.ts';
import { isKernelCondition } from '../model/condition.ts';
import { HOST_NETNS, LB_NETNS, taskNetns } from '../model/linux-names.ts';
import { plan } from '../plan/plan.ts';
import { fallbackConditions } from '../plan/scheduler.ts';
import type { Agent, AgentOptions } from './agent-options.ts';
import { createConditions } from './conditions.ts';
import { createDoctor } from './doctor/doctor.ts';
import { createNodeWatch } from './node/node-watch.ts';
import { readPressure } from './node/pressure.ts';
import { createHealthEndpoint } from './ports/health-endpoint.ts';
import { nodeHealth } from './ports/health-request.ts';
import { createPortAllocator } from './ports/port-allocator.ts';
import { createPortWatch } from './ports/port-watch.ts';
import { createAssignmentFollower } from './reconcile/assignment-follower.ts';
import { startAudit } from './reconcile/audit.ts';
import { createCurrentAssignment } from './reconcile/current-assignment.ts';
import { createHostRoutingWatch } from './reconcile/host-routing-watch.ts';
import { whyPathsMissing } from './reconcile/missing-paths.ts';
import { createPlanComparison } from './reconcile/plan-result.ts';
import { createReconciler } from './reconcile/reconciler.ts';
import { createMessageHandler } from './session/message-handler.ts';
import type { NodeQueries } from './session/node-queries.ts';
import { createReportBatch } from './session/report-batch.ts';
import { createSession } from './session/session.ts';
import { createWelcomeHandler } from './session/welcome.ts';
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

export function createAgent(options: AgentOptions): Agent {
  const { kernel, runtime, disk, history, clock, log } = options;
  /** The newest revision that the kernel holds, and what it rejected of it. */
  let applied = { revision: 0, failures: [] as string[] };
  let stopWatching = () => {};
  let { underlayMtu } = options.capabilities;
  const capabilities = () => ({ ...options.capabilities, underlayMtu, hostRouting: hostRouting.current() });
  const nodeId = () => disk.identity()?.nodeId ?? '';
  const taskListeners = (taskId: string) => reconciler.runExclusive(() => kernel.listeners(taskNetns(taskId)));
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
    listeners: taskListeners,
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
    checks: [(ports) => fallbackConditions(ports, capabilities().schedulers)],
    onListeners: () => sendListeners(),
    onConditions: () => sendPortConditions(),
    onWithheld: (released, withheld) => current.replan({ ports: released, removedPorts: withheld }),
  });

  const hostRouting = createHostRoutingWatch({
    kernel,
    log,
    onChange: (before) => current.replanHostRouting(before),
  });
  const current = createCurrentAssignment({ capabilities, reconciler, tasks, ports: portWatch });
  const nodeWatch = createNodeWatch({
    network: kernel.hostNetwork,
    pressure: () => readPressure(options.stateDir),
    underlay: options.underlay,
    overlay: () => current.overlay(),
    peers: () => current.peers(),
    conditions,
    onUnderlayMtu(mtu) {
      if (mtu === underlayMtu) return;
      log.info({ before: underlayMtu, mtu }, 'the MTU of the routes to the other nodes changed');
      underlayMtu = mtu;
      current.replanAll();
    },
    clock,
    log,
  });

  const { onAssignment } = options;
  const shared = { current, reconciler, tasks, drains, portWatch, nodeWatch, disk, conditions, clock, log };
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
    onWelcome: createWelcomeHandler({
      disk,
      conditions,
      log,
      name: options.name,
      reportAll() {
        sendConditions();
        sendListeners();
        sendPortConditions();
      },
    }),
    onMessage: (message) => handleMessage(message),
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
      (await import('./session/kernel-query.ts')).answerKernelQuery(argument, {
        revision: applied.revision,
        addresses: () => kernel.hostNetwork.addresses(),
        observe: () => reconciler.runExclusive(() => kernel.observe()),
        tasks: () => tasks.exposed(),
        listeners: taskListeners,
      }),
    routes: async (argument) =>
      (await import('./session/routes-query.ts')).answerRoutesQuery(argument, reconciler.have(), kernel.lookUpRoute),
  };

  const handleMessage = createMessageHandler({
    onSnapshot: (assignment) => follower.onSnapshot(assignment),
    onDelta: (delta) => follower.onDelta(delta),
    planFor: (assignment) => plan(current.withLocalState(assignment), capabilities()),
    comparePlan,
    queries,
    send: (report) => session.send(report),
  });

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
      await hostRouting.start();
      const saved = disk.assignment();
      follower.load(saved);
      log.info({ tasks: found.length, revision: saved?.revision ?? 0 }, 'adopted existing kernel state and tasks');
      const stopEvents = kernel.watch((scope, by) => reconciler.recheck(scope, by));
      const audit = startAudit(clock, (scope) => {
        if (coversKind(scope, 'host-rule')) void hostRouting.refresh();
        return reconciler.audit(scope);
      });
      stopWatching = () => {
        stopEvents();
        audit.stop();
      };
      // Before the session, which begins with a report of all conditions.
      await nodeWatch.start();
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
      nodeWatch.stop();
      hostRouting.stop();
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
