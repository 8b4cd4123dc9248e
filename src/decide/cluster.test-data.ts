// A cluster in memory that does what agents do, controlled by the test: the counterpart of the decisions.
import { expect } from 'vitest';
import type { Network, Node, Service, Task, TaskState } from '../model/cluster.ts';
import { type Generation, newGeneration as makeGeneration } from '../model/generation.ts';
import type { ServiceSpec } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';
import type { DecisionContext } from './context.ts';
import { drainingPortsAfter } from './draining-ports.ts';
import { acceptsConnections, withJoinRevision } from './endpoint-state.ts';
import { orchestrate } from './orchestrate.ts';
import type { ServiceDecision } from './task-changes.ts';

const stored = { version: 1, createdAt: 0, updatedAt: 0 };

export function node(number: number, more: Partial<Node> = {}): Node {
  return {
    ...stored,
    id: `n${number}`,
    name: `node${number}`,
    number,
    role: 'worker',
    labels: {},
    availability: 'active',
    underlay: `192.0.2.${number}`,
    state: 'ready',
    stateSince: 0,
    agentVersion: 'test',
    kernelRelease: '6.1.0',
    ...more,
  };
}

export const ingress: Network = {
  ...stored,
  id: 'ingress',
  name: 'ingress',
  vni: 4096,
  subnets: [{ family: 'inet', cidr: '10.252.0.0/14', blockPrefix: 24 }],
};

export function service(spec: Partial<ServiceSpec>): Service {
  return {
    ...stored,
    id: 's1',
    name: 'web',
    taskGeneration: 1,
    spec: {
      name: 'web',
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
      ports: [{ protocol: 'tcp', target: 80, published: 8080, mode: 'ingress' }],
      ...spec,
    },
  };
}

export class Cluster {
  nodes: Node[];
  tasks: Task[] = [];
  now = 1_000_000;
  wakeAt: number | undefined;
  /** Whether nodes acknowledge assignments. */
  acknowledgements = true;
  readonly connections = new Map<string, number>();
  /** Task templates by generation number. */
  readonly generations = new Map<number, Generation>();
  /** Tasks of other services. */
  readonly others: Task[] = [];
  /** The result of the health check of every new task. */
  health: 'starting' | 'healthy' | 'unhealthy' = 'healthy';
  /** Whether new tasks reach the state running. */
  tasksStart = true;
  #service: Service | undefined;
  #revision = 1;
  #ids = 0;

  constructor(nodes: Node[]) {
    this.nodes = nodes;
  }

  apply(desired: Service, newGeneration = false): void {
    const before = this.#service;
    const generation = (before?.taskGeneration ?? 1) + (newGeneration ? 1 : 0);
    const leaving = before === undefined ? [] : drainingPortsAfter(before, desired.spec, this.#revision + 1, this.now);
    if (before === undefined || newGeneration)
      this.generations.set(generation, makeGeneration(desired.id, generation, desired.spec, this.now));
    this.#service = { ...desired, taskGeneration: generation, ...(leaving.length === 0 ? {} : { leaving }) };
    this.#revision += 1;
  }

  commandOf({ generation }: Task): string[] {
    return this.generations.get(generation)!.template.command;
  }

  removeService(): void {
    this.#service = { ...this.#service!, removed: true };
    this.#revision += 1;
  }

  get service(): Service | undefined {
    return this.#service;
  }

  /** Tasks that may get new connections. */
  serving(): Task[] {
    return this.tasks.filter((task) => acceptsConnections(task, this.#home(task)));
  }

  report(id: string, status: Partial<Task['status']>): void {
    this.tasks = this.tasks.map((task) =>
      task.id === id ? this.#stamped(task, { ...task, status: { ...task.status, ...status } }) : task,
    );
  }

  running(): Task[] {
    return this.tasks.filter((task) => task.status.state === 'running').sort((a, b) => a.slot - b.slot);
  }

  end(id: string, state: TaskState): void {
    this.tasks = this.tasks.map((task) =>
      task.id === id ? { ...task, status: { ...task.status, state, since: this.now } } : task,
    );
  }

  decide(): ServiceDecision {
    const context: DecisionContext = {
      now: this.now,
      nextRevision: this.#revision + 1,
      nodes: this.nodes,
      networks: [ingress],
      tasksOn: (nodeId) => [...this.tasks, ...this.others].filter((task) => task.nodeId === nodeId),
      acknowledged: () => (this.acknowledgements ? this.#revision : 0),
      openConnections: (taskId) => this.connections.get(taskId) ?? 0,
      newId: () => {
        this.#ids += 1;
        return `t${this.#ids}`;
      },
    };
    return orchestrate(this.#service, this.tasks, context);
  }

  /** One decision, and one step of every agent. Returns whether anything changed. */
  step(): boolean {
    const { put, remove, wakeAt, service: over } = this.decide();
    if (over !== undefined) this.#service = 'put' in over ? over.put : undefined;
    this.wakeAt = wakeAt;
    const changed = new Map(put.map((task) => [task.id, { ...task, version: task.version + 1 }]));
    const removed = new Set(remove.map((task) => task.id));
    const kept = this.tasks.filter((task) => !removed.has(task.id) && !changed.has(task.id));
    const read = new Map(this.tasks.map((task) => [task.id, task]));
    const written = [...changed.values()].map((task) => this.#stamped(read.get(task.id), task));
    this.tasks = [...kept, ...written];
    if (put.length + remove.length > 0) this.#revision += 1;
    const before = this.tasks;
    this.tasks = this.tasks.map((task) => this.#live(task));
    return (
      over !== undefined || put.length + remove.length > 0 || this.tasks.some((task, index) => task !== before[index])
    );
  }

  settle(): void {
    for (let round = 0; this.step(); round += 1) if (round > 500) throw new Error('does not settle');
  }

  #home(task: Task): Node | undefined {
    return this.nodes.find((each) => each.id === task.nodeId);
  }

  /** Sets the field that the manager sets when a task begins to accept connections. */
  #stamped(before: Task | undefined, after: Task): Task {
    const home = this.#home(after);
    const joins = acceptsConnections(after, home) && !(before !== undefined && acceptsConnections(before, home));
    return joins ? withJoinRevision(after, this.#revision + 1, this.now) : after;
  }

  /** What the agent of a task does next. */
  #live(task: Task): Task {
    const home = this.#home(task);
    if (home === undefined || home.state === 'down' || isTerminal(task.status.state)) return task;
    const to = (state: TaskState, more: Partial<Task['status']> = {}): Task =>
      this.#stamped(task, { ...task, status: { ...task.status, ...more, state, since: this.now } });
    if (task.desired === 'shutdown') return to('shutdown');
    if (task.status.state === 'assigned') return to('starting');
    if (task.status.state !== 'starting' || !this.tasksStart) return task;
    return to('running', task.hasHealthCheck === undefined ? {} : { health: this.health });
  }
}

/** No two tasks of a node hold one host port. */
export function expectNoSharedHostPorts(tasks: readonly Task[]): void {
  const taken = tasks
    .filter(({ status }) => !isTerminal(status.state))
    .flatMap(({ nodeId, hostPorts }) => (hostPorts ?? []).map((key) => `${nodeId} ${key}`));
  expect(taken).toEqual([...new Set(taken)]);
}
