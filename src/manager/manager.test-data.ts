import { mkdtempSync, rmSync } from 'node:fs';
import { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Clock } from '../base/clock.ts';
import { MeshError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { Assignment } from '../model/assignment.ts';
import { applyAssignmentDelta } from '../model/assignment-delta.ts';
import type { Listener, PortCondition, Stored, TaskState, TaskStatus } from '../model/cluster.ts';
import type { Condition } from '../model/condition.ts';
import type { ServiceSpec } from '../model/spec.ts';
import { controlChecks } from '../rpc/check-messages.ts';
import { type ControlConnection, connectControl } from '../rpc/client.ts';
import { connectDispatch } from '../rpc/dispatch-client.ts';
import { Control } from '../rpc/gen/mesh_pb.js';
import type { Hello, Task } from '../rpc/messages.ts';
import { type ServeOptions, serveLocalAgent, servePeople } from '../rpc/server.ts';
import { implement } from '../rpc/service.ts';
import type { Change, Store } from '../store/store.ts';
import { createManager, type Manager, type ManagerOptions } from './manager.ts';

/** Time that only a test advances; timers run in their order. */
export interface FakeClock extends Clock {
  advance(ms: number): void;
}

export function fakeClock(start = 1_700_000_000_000): FakeClock {
  let time = 0;
  let timers: { at: number; callback: () => void }[] = [];
  return {
    now: () => start + time,
    monotonic: () => time,
    after(delay, callback) {
      const timer = { at: time + delay, callback };
      timers.push(timer);
      return () => {
        timers = timers.filter((other) => other !== timer);
      };
    },
    advance(ms) {
      const end = time + ms;
      for (;;) {
        const next = timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0];
        if (next === undefined) break;
        timers = timers.filter((timer) => timer !== next);
        time = Math.max(time, next.at);
        next.callback();
      }
      time = end;
    },
  };
}

/** A store in memory; `onTransact` may throw to simulate a failing disk. */
export function memoryStore(): Store & { onTransact: () => void } {
  const collections = new Map<string, Map<string, Stored>>();
  const listeners = new Set<(changes: readonly Change[]) => void>();
  let revision = 0;
  const of = (name: string) => {
    if (!collections.has(name)) collections.set(name, new Map());
    return collections.get(name)!;
  };
  const store: Store & { onTransact: () => void } = {
    onTransact: () => {},
    revision: () => revision,
    get: <T extends Stored>(collection: string, id: string) => of(collection).get(id) as T | undefined,
    list: <T extends Stored>(collection: string) => [...of(collection).values()] as T[],
    async transact(writes) {
      await Promise.resolve();
      if (writes.length === 0) return { revision };
      store.onTransact();
      const changes = writes.map((write): Change => {
        const [collection, id] = 'put' in write ? [write.put, write.object.id] : [write.remove, write.id];
        const version = 'put' in write ? write.object.version : write.version;
        const before = of(collection).get(id);
        if ((before?.version ?? 0) !== version) throw new MeshError('conflict', `${collection}/${id} moved on`);
        const after = 'put' in write ? { ...structuredClone(write.object), version: version + 1 } : undefined;
        return { revision: revision + 1, collection, id, before, after };
      });
      revision += 1;
      for (const { collection, id, after } of changes) {
        if (after === undefined) of(collection).delete(id);
        else of(collection).set(id, after);
      }
      for (const listener of listeners) listener(changes);
      return { revision };
    },
    watch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    close: async () => {},
  };
  return store;
}

export function spec(name: string, more: Partial<ServiceSpec> = {}): ServiceSpec {
  return {
    name,
    labels: {},
    runtime: 'process',
    command: ['serve'],
    workingDir: '/',
    environment: {},
    mode: 'replicated',
    replicas: 1,
    constraints: [],
    restart: { condition: 'any', maxAttempts: 0, window: 0 },
    stopGracePeriod: 10_000,
    ports: [],
    ...more,
  };
}

export const tcp = (published: number, target = 80) => ({
  protocol: 'tcp' as const,
  published,
  target,
  mode: 'ingress' as const,
});

/** A node for tests that follows its assignment immediately, and reports it. */
interface FakeAgent {
  nodeId: string;
  assignment: Assignment | undefined;
  /** Number of snapshots and deltas received. */
  snapshots: number;
  deltas: number;
  /** Settles when the session ends, with its error if there was one. */
  ended: Promise<unknown>;
  /** Open connections to draining tasks; 0 when absent. */
  connections: Map<string, number>;
  /** Whether assignments are acknowledged and tasks run. */
  responds: boolean;
  sendsHeartbeats: boolean;
  /** Requested plans. */
  dryRuns: Assignment[];
  answersDryRuns: boolean;
  /** Replies to requests of this kind; undefined: no reply. */
  answer: ((kind: string, argument: string) => unknown) | undefined;
  report(taskId: string, state: TaskState, more?: Partial<TaskStatus>): void;
  conditions(...conditions: Condition[]): void;
  listeners(...listeners: Listener[]): void;
  portConditions(...conditions: PortCondition[]): void;
  acknowledge(): void;
  close(): void;
}

export interface TestCluster {
  manager: Manager;
  store: Store & { onTransact: () => void };
  clock: FakeClock;
  control: ControlConnection;
  /** `connections` as of FakeAgent, from the start of the session. */
  agent(name: string, more?: Partial<Hello>, connections?: Map<string, number>): Promise<FakeAgent>;
  apply(...specs: ServiceSpec[]): ReturnType<ControlConnection['apply']>;
  tasks(service?: string): Promise<Task[]>;
  /** Advances time and delivers messages until this is true. */
  waitUntil(what: () => boolean | Promise<boolean>): Promise<void>;
  /** Advances time by that much, and delivers messages in between. */
  advanceTime(ms: number): Promise<void>;
  /** A manager on the same store, as after a restart. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

/** Options of a server whose callers are all root. */
export const asOwner: ServeOptions = {
  callerOf: () => ({ kind: 'local', uid: 0, pid: 1, access: 'owner' }),
  log: silentLog(),
};

/** Of a call that no one cancels. */
export const callContext = () => ({ signal: new AbortController().signal, caller: asOwner.callerOf(new Socket()) });

const yieldToEventLoop = () => new Promise((resolve) => setTimeout(resolve, 1));

export async function testCluster(more: Partial<Pick<ManagerOptions, 'families'>> = {}): Promise<TestCluster> {
  const directory = mkdtempSync(join(tmpdir(), 'manager-'));
  const clock = fakeClock();
  const store = memoryStore();
  const agents: FakeAgent[] = [];
  const cleanups: (() => unknown)[] = [];
  const open = async () => {
    const manager = await createManager({ store, clock, log: silentLog(), version: 'test', ...more });
    const { control, serveSession } = manager.handlers;
    const people = await servePeople(
      { path: join(directory, 'm.sock'), mode: 0o600 },
      [implement(Control, controlChecks, control, silentLog())],
      asOwner,
    );
    const agents = await serveLocalAgent({ path: join(directory, 'agent.sock'), mode: 0o600 }, serveSession, asOwner);
    manager.start();
    return { manager, people, agents, control: connectControl(people.address) };
  };
  let current = await open();
  const shutDown = async () => {
    current.control.close();
    await current.manager.stop();
    await current.people.stop();
    await current.agents.stop();
  };
  const cluster: TestCluster = {
    get manager() {
      return current.manager;
    },
    get control() {
      return current.control;
    },
    store,
    clock,
    async agent(name, hello = {}, connections = new Map()) {
      const underlay = `192.0.2.${agents.length + 1}`;
      const created = fakeAgent(current.agents.address, clock, { name, underlay, ...hello }, connections);
      agents.push(created.agent);
      cleanups.push(() => created.agent.close());
      let failed: unknown;
      created.agent.ended.then((error) => {
        failed = error ?? new Error('the session ended');
      });
      await cluster.waitUntil(() => created.agent.assignment !== undefined || failed !== undefined);
      if (failed !== undefined) throw failed;
      return created.agent;
    },
    apply: (...specs) => current.control.apply({ services: specs, dryRun: false }),
    tasks: async (service) =>
      (await current.control.listTasks({ ...(service !== undefined && { service }), includeEnded: false })).tasks,
    async waitUntil(condition) {
      const limit = Date.now() + 25_000;
      while (!(await condition())) {
        if (Date.now() > limit) expect.fail(`this did not become true: ${condition}`);
        clock.advance(10);
        await yieldToEventLoop();
      }
    },
    async advanceTime(ms) {
      for (let passed = 0; passed < ms; passed += 100) {
        clock.advance(Math.min(100, ms - passed));
        await yieldToEventLoop();
      }
    },
    async restart() {
      await shutDown();
      current = await open();
    },
    async stop() {
      for (const close of cleanups) close();
      await shutDown();
      rmSync(directory, { recursive: true, force: true });
    },
  };
  return cluster;
}

function fakeAgent(
  address: string,
  clock: Clock,
  hello: Partial<Hello>,
  connections: Map<string, number>,
): { agent: FakeAgent } {
  const connection = connectDispatch(address);
  const stream = connection.session();
  const states = new Map<string, TaskState>();
  const send = (message: NonNullable<Parameters<typeof stream.send>[0]['message']>, probeId = 0) =>
    void stream.send({ message, probeId });
  const agent: FakeAgent = {
    nodeId: '',
    assignment: undefined,
    snapshots: 0,
    deltas: 0,
    connections,
    responds: true,
    sendsHeartbeats: true,
    dryRuns: [],
    answersDryRuns: true,
    answer: undefined,
    ended: Promise.resolve(),
    report(taskId, state, more = {}) {
      states.set(taskId, state);
      const status = {
        state,
        message: '',
        error: state === 'failed' ? 'exit status 1' : '',
        since: 1,
        pid: 7,
        ...more,
      };
      send({ case: 'tasks', value: { tasks: [{ taskId, status }] } });
    },
    listeners: (...listeners) => send({ case: 'listeners', value: { listeners } }),
    portConditions: (...conditions) => send({ case: 'portConditions', value: { conditions } }),
    conditions: (...reported) => {
      const conditions = reported.map(({ code, params }) => ({ code, params: { ...params } }));
      send({ case: 'conditions', value: { conditions } });
    },
    acknowledge() {
      const { revision, ports } = agent.assignment!;
      send({ case: 'ack', value: { revision, failures: [] } });
      const draining = ports.flatMap(({ endpoints }) => endpoints.filter(({ weight }) => weight === 0));
      const endpoints = draining.map(({ taskId }) => ({ taskId, active: agent.connections.get(taskId) ?? 0 }));
      if (endpoints.length > 0) send({ case: 'connections', value: { revision, endpoints } });
    },
    close() {
      stream.end(new MeshError('unavailable', 'bye'));
      connection.close();
    },
  };
  const applyAssignment = () => {
    if (!agent.responds) return;
    agent.acknowledge();
    for (const { id, desired } of agent.assignment!.tasks) {
      const target = desired === 'running' ? 'running' : 'shutdown';
      if (!states.has(id) || (target === 'shutdown' && states.get(id) === 'running')) agent.report(id, target);
    }
  };
  const sendHeartbeat = () => {
    if (stream.closed.aborted) return;
    if (agent.sendsHeartbeats) send({ case: 'heartbeat', value: {} });
    if (agent.assignment !== undefined && agent.responds) agent.acknowledge();
    clock.after(1_000, sendHeartbeat);
  };
  const run = async () => {
    send({
      case: 'hello',
      value: {
        name: '',
        nodeId: '',
        underlay: '',
        labels: {},
        version: 'test',
        kernelRelease: '6.1',
        role: 'worker',
        tasks: [],
        ...hello,
      },
    });
    clock.after(1_000, sendHeartbeat);
    for await (const { message } of stream.received) {
      if (message?.case === 'welcome') agent.nodeId = message.value.nodeId;
      else if (message?.case === 'snapshot') {
        agent.assignment = message.value;
        agent.snapshots += 1;
        applyAssignment();
      } else if (message?.case === 'delta') {
        const after = applyAssignmentDelta(agent.assignment!, message.value);
        if (!after.ok) throw after.error;
        agent.assignment = after.value;
        agent.deltas += 1;
        applyAssignment();
      } else if (message?.case === 'probe') {
        agent.dryRuns.push(message.value.assignment!);
        const value = { nodeId: '', nodeName: '', steps: ['ip link add'], error: '', revision: 1 };
        if (agent.answersDryRuns) send({ case: 'plan', value }, message.value.probeId);
      } else if (message?.case === 'question' && agent.answer !== undefined) {
        const { questionId, kind, argument } = message.value;
        const body = Buffer.from(JSON.stringify(agent.answer(kind, argument)));
        send({ case: 'answer', value: { questionId, body, last: true, error: '' } });
      }
    }
  };
  agent.ended = run().then(
    () => undefined,
    (thrown) => thrown,
  );
  return { agent };
}

/** The endpoints of a published port. */
export function endpoints(
  assignment: Assignment | undefined,
  published: number,
): Assignment['ports'][number]['endpoints'] {
  return assignment?.ports.find((port) => port.published === published)?.endpoints ?? [];
}
