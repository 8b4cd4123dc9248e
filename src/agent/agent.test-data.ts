import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { createModelKernel, type ModelKernel } from '../kernel/model/model-kernel.ts';
import type { AssignedTask, Assignment, AssignmentDelta } from '../model/assignment.ts';
import { taskNetns } from '../model/linux-names.ts';
import { CAPABILITIES, endpoint, port, task, threeNodes } from '../plan/assignments.test-data.ts';
import { plan } from '../plan/plan.ts';
import { connectDispatch } from '../rpc/dispatch-client.ts';
import type { SessionHandler } from '../rpc/grpc-server.ts';
import type { AgentMessage, ManagerMessage } from '../rpc/messages.ts';
import { type RunningServer, serveInsecureAgents } from '../rpc/server.ts';
import type { Duplex } from '../rpc/session.ts';
import type { EndedTask, LiveTask, ProbeResult, Runtime, TaskCheckpoint, TaskExit } from '../runtime/runtime.ts';
import { createAgent } from './agent.ts';
import { openAgentDisk } from './agent-disk.ts';
import type { Agent, AgentOptions } from './agent-options.ts';
import { openHistory } from './session/history.ts';

/** A node for tests: the real agent on a model kernel, with a fake runtime. */

/** Tasks as a table; like real ones they outlive the agent. */
export interface FakeRuntime {
  runtime(): Runtime;
  started: string[];
  stops: string[];
  removed: string[];
  /** By task id, the result of every probe from now on; `ok` for tasks that are not here. */
  health: Map<string, ProbeResult>;
  /** Task ids, one a probe. */
  probed: string[];
  notes(taskId: string): TaskCheckpoint | undefined;
  live(): string[];
  end(taskId: string, exit: Omit<TaskExit, 'at'>): void;
}

export function fakeRuntime(): FakeRuntime {
  const processes = new Map<string, LiveTask | EndedTask>();
  let listeners: ((ended: EndedTask) => void)[] = [];
  const fake: FakeRuntime = {
    started: [],
    stops: [],
    removed: [],
    health: new Map(),
    probed: [],
    notes: (taskId) => processes.get(taskId)?.note,
    live: () => [...processes.values()].filter(({ state }) => state === 'live').map((process) => process.task.id),
    end(taskId, exit) {
      const process = processes.get(taskId);
      if (process?.state !== 'live') throw new Error(`${taskId} does not run`);
      const ended: EndedTask = {
        state: 'ended',
        task: process.task,
        exit: { ...exit, at: Date.now() },
        stopRequested: process.stopRequested,
      };
      processes.set(taskId, ended);
      for (const listener of listeners) listener(ended);
    },
    runtime: () => ({
      recover: async () => [...processes.values()],
      async start({ task: started, note }) {
        fake.started.push(started.id);
        const pid = 1000 + fake.started.length;
        const live: LiveTask = { state: 'live', task: started, pid, stopRequested: false, ...(note && { note }) };
        processes.set(started.id, live);
        return live;
      },
      stop(taskId) {
        fake.stops.push(taskId);
        const process = processes.get(taskId);
        if (process !== undefined) process.stopRequested = true;
      },
      saveCheckpoint(taskId, note) {
        const process = processes.get(taskId);
        if (process !== undefined) process.note = note;
      },
      async probe(taskId) {
        fake.probed.push(taskId);
        return fake.health.get(taskId) ?? { ok: true, output: '' };
      },
      async remove(taskId) {
        fake.removed.push(taskId);
        processes.delete(taskId);
      },
      onEnd: (listener) => void listeners.push(listener),
      close() {
        listeners = [];
      },
    }),
  };
  return fake;
}

type ReceivedMessage = NonNullable<AgentMessage['message']>;

/** The other end of the agent's stream, over real gRPC. */
export interface FakeManager {
  address: string;
  clusterId: string;
  /** All messages of agents, oldest first; over all sessions. */
  received: (ReceivedMessage & { probeId: number })[];
  sessions: number;
  /** What every new session gets after its welcome. */
  assignment: Assignment | undefined;
  send(message: NonNullable<ManagerMessage['message']>): void;
  delta(change: Partial<AssignmentDelta>): void;
  /** The values of one kind of message. */
  of<C extends ReceivedMessage['case']>(kind: C): Extract<ReceivedMessage, { case: C }>['value'][];
  stop(): Promise<void>;
}

export async function fakeManager(address = '127.0.0.1:0'): Promise<FakeManager> {
  const streams = new Set<Duplex<AgentMessage, ManagerMessage>>();
  let server: RunningServer | undefined;
  let sending: Promise<unknown> = Promise.resolve();
  const manager: FakeManager = {
    address: '',
    clusterId: 'cluster1',
    received: [],
    sessions: 0,
    assignment: undefined,
    send(message) {
      for (const stream of streams) sending = sending.then(() => stream.send({ message }));
    },
    delta(change) {
      const before = manager.assignment!;
      const delta: AssignmentDelta = {
        base: before.revision,
        revision: before.revision + 1,
        peers: [],
        ports: [],
        tasks: [],
        removedPeers: [],
        removedPorts: [],
        removedTasks: [],
        ...change,
      };
      const keep = <T>(list: T[], changed: T[], removed: string[], key: (item: T) => string) => [
        ...list.filter((item) => !removed.includes(key(item)) && !changed.some((other) => key(other) === key(item))),
        ...changed,
      ];
      manager.assignment = {
        ...before,
        revision: delta.revision,
        ports: keep(before.ports, delta.ports, delta.removedPorts, (item) => `${item.published}/${item.protocol}`),
        tasks: keep(before.tasks, delta.tasks, delta.removedTasks, (item) => item.id),
      };
      manager.send({ case: 'delta', value: delta });
    },
    of: (kind) => manager.received.filter((message) => message.case === kind).map(({ value }) => value as never),
    stop: async () => server?.stop(),
  };
  const serveSession: SessionHandler = async (stream) => {
    manager.sessions += 1;
    streams.add(stream);
    try {
      for await (const { message, probeId } of stream.received) {
        if (message === undefined) continue;
        manager.received.push({ ...message, probeId });
        if (message.case !== 'hello') continue;
        const { clusterId } = manager;
        await stream.send({
          message: { case: 'welcome', value: { nodeId: 'node1', heartbeatSeconds: 1, clusterId } },
        });
        if (manager.assignment !== undefined) {
          await stream.send({ message: { case: 'snapshot', value: manager.assignment } });
        }
      }
    } finally {
      streams.delete(stream);
    }
  };
  server = await serveInsecureAgents(address, serveSession, silentLog());
  manager.address = server.address;
  return manager;
}

export const TASK = 'aaaaaaaaaaaa';

export interface TestNode {
  kernel: ModelKernel;
  tasks: FakeRuntime;
  stateDir: string;
  agent: Agent;
  /** The agent dies and a new one starts: same kernel, same tasks, same disk. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export async function startNode(
  managers: string[],
  options: { kernel?: ModelKernel; log?: AgentOptions['log'] } = {},
): Promise<TestNode> {
  const kernel = options.kernel ?? createModelKernel();
  const tasks = fakeRuntime();
  const stateDir = mkdtempSync(join(tmpdir(), 'agent-'));
  const log = options.log ?? silentLog();
  const create = () =>
    createAgent({
      kernel,
      runtime: tasks.runtime(),
      disk: openAgentDisk(stateDir, systemClock, log),
      history: openHistory(stateDir, systemClock, log),
      clock: systemClock,
      log,
      random: () => 0,
      capabilities: CAPABILITIES,
      name: 'node1',
      underlay: '192.0.2.1',
      role: 'worker',
      labels: { zone: 'a' },
      version: '0',
      kernelRelease: '6.1.0',
      managers,
      connect: connectDispatch,
    });
  const node: TestNode = {
    kernel,
    tasks,
    stateDir,
    agent: create(),
    async restart() {
      await node.agent.stop();
      node.agent = create();
      await node.agent.start();
    },
    async close() {
      await node.agent.stop();
      rmSync(stateDir, { recursive: true, force: true });
    },
  };
  await node.agent.start();
  return node;
}

/** Makes the task listen on its target. */
export function listen(kernel: ModelKernel, taskId: string, ...addresses: string[]): void {
  const bound = addresses.length === 0 ? ['0.0.0.0'] : addresses;
  kernel.setListeners(
    taskNetns(taskId),
    bound.map((address) => ({ protocol: 'tcp', port: 80, address })),
  );
}

/** Node 1 of three with one task of its own; IPv4 only. */
export const assignment = () => threeNodes(['inet']);

export function desiredState(of: Assignment, tasks: AssignedTask[] = of.tasks) {
  return plan({ ...of, tasks }, CAPABILITIES);
}

export const extraTask = (slot: number) => task(`bbbbbbbbbbb${slot}`, 1, slot, ['inet']);
export const extraPort = (published: number, weight = 1) =>
  port('tcp', published, [endpoint(2, 1, 'inet', 80, weight)]);

export async function eventually<T>(poll: () => T | undefined | false, what = 'it'): Promise<NonNullable<T>> {
  const end = Date.now() + 20_000;
  for (;;) {
    const found = poll();
    if (found) return found as NonNullable<T>;
    if (Date.now() > end) throw new Error(`${what} did not happen`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}
