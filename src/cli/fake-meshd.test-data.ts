import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MeshError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { TaskState } from '../model/cluster.ts';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { controlChecks, localChecks } from '../rpc/check-messages.ts';
import { Control, Local } from '../rpc/gen/mesh_pb.js';
import type {
  InfoReply,
  Node,
  NodeAnswer,
  NodeCheckup,
  Service,
  Task,
  TaskPort,
  TraceReply,
  WatchEvent,
} from '../rpc/messages.ts';
import { servePeople } from '../rpc/server.ts';
import { type Handlers, implement } from '../rpc/service.ts';

/** For tests: a meshd that answers over a real socket with the objects of the test and records the calls. */
export interface FakeMeshd {
  host: string;
  services: Service[];
  tasks: Task[];
  nodes: Node[];
  /** Answer of `trace`. */
  trace: TraceReply;
  /** Answer of `doctor`. */
  checkups: NodeCheckup[];
  /** Answers of the nodes to `ask`. */
  answers: NodeAnswer[];
  calls: { name: string; request: unknown }[];
  info: InfoReply;
  /** Warnings for every service that is applied or updated. */
  warnings: string[];
  /** Numbers that nodes chose for every port in mode host without one. */
  picked: TaskPort[];
  /** Sends an event to everyone who watches. */
  sendEvent(event: WatchEvent): void;
  /** Ends every watch, like a manager that restarts. */
  dropWatches(): void;
  /** Handles an applied spec; the default creates a service whose tasks run. */
  onApply(spec: ServiceSpec): void;
  stop(): Promise<void>;
}

export async function startFakeMeshd(options: { manager?: boolean } = {}): Promise<FakeMeshd> {
  const directory = await mkdtemp(join(tmpdir(), 'meshctl-test-'));
  const watchers = new Set<(event: WatchEvent | 'drop') => void>();
  const fake: FakeMeshd = {
    host: `unix://${directory}/meshd.sock`,
    services: [],
    tasks: [],
    checkups: [],
    trace: { client: '', destination: '', nodes: [], outcome: 'answered', reason: '', hops: [], paths: [] },
    answers: [],
    nodes: ['node1', 'node2'].map((name, index) => makeNode({ id: `n${index + 1}`, name, number: index + 1 })),
    calls: [],
    warnings: [],
    picked: [],
    info: makeInfo(options.manager === false ? ['agent'] : ['manager', 'agent']),
    sendEvent: (event) => {
      for (const watcher of watchers) watcher(event);
    },
    dropWatches: () => {
      for (const watcher of watchers) watcher('drop');
    },
    onApply(spec) {
      const id = `s-${spec.name}`;
      fake.services = [...fake.services.filter((old) => old.id !== id), makeService({ id, name: spec.name, spec })];
      fake.tasks = fake.tasks.filter((task) => task.serviceId !== id);
      for (let slot = 1; slot <= spec.replicas; slot++) {
        fake.tasks.push(makeTask({ id: `${spec.name}${slot}`, serviceId: id, serviceName: spec.name, slot }));
      }
    },
    async stop() {
      await server.stop();
      await rm(directory, { recursive: true, force: true });
    },
  };
  const asked = (name: string, request: unknown) => fake.calls.push({ name, request });

  const control: Handlers<typeof Control> = {
    async apply(request) {
      asked('apply', request);
      const services = request.services.map(({ name }) => {
        const known = fake.services.some((service) => service.name === name);
        return {
          id: `s-${name}`,
          name,
          action: known ? ('updated' as const) : ('created' as const),
          changes: known ? ['replicas 1 → 3'] : [],
          warnings: fake.warnings,
        };
      });
      if (!request.dryRun) for (const spec of request.services) fake.onApply(spec);
      return { services, revision: 2 };
    },
    async scale(request) {
      asked('scale', request);
      const services = request.targets.map(({ service, replicas }) => {
        const found = fake.services.find(({ name }) => name === service);
        if (found?.spec === undefined)
          throw new MeshError('not-found', `there is no service ${service}; see meshctl service ls`);
        fake.onApply({ ...found.spec, replicas });
        return {
          id: found.id,
          name: service,
          action: 'updated' as const,
          changes: [`replicas ${found.spec.replicas} → ${replicas}`],
          warnings: fake.warnings,
        };
      });
      return { services, revision: 3 };
    },
    async removeServices(request) {
      asked('removeServices', request);
      const gone = fake.services.filter(({ id }) => request.services.includes(id));
      fake.services = fake.services.filter((service) => !gone.includes(service));
      return { ids: gone.map(({ id }) => id), names: gone.map(({ name }) => name), revision: 4 };
    },
    listServices: async () => ({ services: fake.services }),
    async listTasks(request) {
      asked('listTasks', request);
      return {
        tasks: fake.tasks.filter(({ serviceId }) => request.service === undefined || serviceId === request.service),
      };
    },
    listNodes: async () => ({ nodes: fake.nodes }),
    async updateNode(request) {
      asked('updateNode', request);
      const node = fake.nodes.find(({ id }) => id === request.node);
      if (node === undefined) throw new MeshError('not-found', 'no such node');
      return { ...node, labels: request.setLabels };
    },
    async removeNode(request) {
      asked('removeNode', request);
      return { id: request.node };
    },
    async *watch(_, { signal }) {
      const queue: (WatchEvent | 'drop')[] = [
        ...fake.services.map((value) => current({ case: 'service', value })),
        ...fake.tasks.map((value) => current({ case: 'task', value })),
        ...fake.nodes.map((value) => current({ case: 'node', value })),
        { action: 'ready', object: undefined, revision: 1 },
      ];
      let wake = () => {};
      const watcher = (event: WatchEvent | 'drop') => {
        queue.push(event);
        wake();
      };
      watchers.add(watcher);
      signal.addEventListener('abort', () => wake());
      while (!signal.aborted) {
        for (const event of queue.splice(0)) {
          if (event === 'drop') throw new MeshError('unavailable', 'this manager stops');
          yield event;
        }
        if (queue.length === 0 && !signal.aborted) {
          await new Promise<void>((resolve) => {
            wake = resolve;
          });
        }
      }
      watchers.delete(watcher);
    },
    async updateService(request) {
      asked('updateService', request);
      const found = fake.services.find(({ name }) => name === request.service);
      if (found === undefined)
        throw new MeshError('not-found', `there is no service ${request.service}; see meshctl service ls`);
      if (found.spec !== undefined) fake.onApply({ ...found.spec, replicas: request.replicas ?? found.spec.replicas });
      const changes = ['ports changed'];
      const { warnings } = fake;
      return { services: [{ id: found.id, name: found.name, action: 'updated', changes, warnings }], revision: 2 };
    },
    async listPorts() {
      return {
        ports: fake.services.flatMap((service) =>
          (service.spec?.ports ?? []).map((port) => ({
            serviceId: service.id,
            serviceName: service.name,
            port,
            degraded: service.degraded,
            tasks: port.mode === 'host' && port.published === undefined ? fake.picked : [],
          })),
        ),
      };
    },
    async trace(request) {
      asked('trace', request);
      return fake.trace;
    },
    async doctor(request) {
      asked('doctor', request);
      return { nodes: fake.checkups };
    },
    async ask(request) {
      asked('ask', request);
      return { nodes: fake.answers };
    },
    async plan(request) {
      asked('plan', request);
      return {
        services: request.services.map(({ name }) => {
          return { id: '', name, action: 'created', changes: [], warnings: fake.warnings };
        }),
        nodes: [
          { nodeId: 'n1', nodeName: 'node1', steps: ['ipset add mesh-pub-tcp 8080'], error: '', revision: 2 },
          { nodeId: 'n2', nodeName: 'node2', steps: [], error: '', revision: 2 },
        ],
      };
    },
    status: async () => ({
      clusterId: 'c1',
      revision: 7,
      version: '1.0.0',
      startedAt: 1,
      services: 1,
      tasksRunning: 2,
      tasksDesired: 3,
      nodesReady: 2,
      nodes: 2,
    }),
  };
  const local: Handlers<typeof Local> = {
    info: async () => fake.info,
    diff: async () => ({ nodeId: 'n1', nodeName: 'node1', steps: [], error: '', revision: 2 }),
  };
  const log = silentLog();
  const server = await servePeople(
    { path: `${directory}/meshd.sock`, mode: 0o600 },
    [
      implement(Local, localChecks, local, log),
      ...(options.manager === false ? [] : [implement(Control, controlChecks, control, log)]),
    ],
    { callerOf: () => ({ kind: 'local', uid: 0, pid: 1, access: 'owner' }), log },
  );
  return fake;
}

const current = (object: WatchEvent['object']): WatchEvent => ({ action: 'current', object, revision: 1 });

function makeInfo(roles: InfoReply['roles']): InfoReply {
  return {
    nodeName: 'node1',
    nodeId: 'n1',
    roles,
    version: '1.0.0',
    startedAt: 1000,
    assignmentRevision: 5,
    connected: true,
    manager: 'node0 172.30.0.1:2377',
    pid: 42,
    kernelObjects: 100,
    counters: { sends: 1, messages: 2, bytes: 3, firewallRuns: 4, operations: 5, failed: 0, observes: 6, repairs: 7 },
    conditions: [],
  };
}

export function makePort(
  given: Omit<Partial<PortSpec>, 'published'> & { published?: number | undefined } = {},
): PortSpec {
  const { published, ...port } = { protocol: 'tcp', target: 80, published: 8080, mode: 'ingress', ...given } as const;
  return { ...port, ...(published !== undefined && { published }) };
}

export function makeSpec(given: Partial<ServiceSpec> = {}): ServiceSpec {
  return {
    name: 'web',
    labels: {},
    runtime: 'process',
    command: ['node', 'whoami.mjs'],
    workingDir: '/',
    environment: {},
    capAdd: [],
    capDrop: [],
    mode: 'replicated',
    replicas: 3,
    constraints: [],
    restart: { condition: 'any', maxAttempts: 0, window: 0 },
    stopGracePeriod: 10_000,
    ports: [makePort()],
    ...given,
  };
}

export function makeService(given: Partial<Service> = {}): Service {
  const spec = given.spec ?? makeSpec();
  return {
    id: 's-web',
    version: 1,
    createdAt: 1000,
    updatedAt: 2000,
    name: spec.name,
    taskGeneration: 1,
    running: spec.replicas,
    desired: spec.replicas,
    degraded: [],
    pending: 0,
    pendingNodes: [],
    ...given,
    spec,
  };
}

export function makeTask(given: Partial<Task> = {}, state: TaskState = 'running', error = ''): Task {
  return {
    id: 'web1',
    version: 1,
    createdAt: 1000,
    updatedAt: 1000,
    serviceId: 's-web',
    serviceName: 'web',
    slot: 1,
    nodeId: 'n2',
    nodeName: 'node2',
    addresses: [{ networkId: 'ingress', address: '10.255.2.5' }],
    desired: 'running',
    status: { state, message: '', error, since: 1000, ...(state === 'running' ? { pid: 77 } : {}) },
    restarts: 0,
    generation: 1,
    command: ['node', 'whoami.mjs'],
    ports: [makePort()],
    ...given,
  };
}

export function makeNode(given: Partial<Node> = {}): Node {
  return {
    id: 'n1',
    version: 1,
    createdAt: 1000,
    updatedAt: 1000,
    name: 'node1',
    number: 1,
    role: given.number === 1 ? 'manager' : 'worker',
    labels: {},
    availability: 'active',
    underlay: '172.30.0.1',
    state: 'ready',
    stateSince: 1000,
    agentVersion: '1.0.0',
    kernelRelease: '6.1.0',
    acknowledgedRevision: 2,
    tasksRunning: 1,
    conditions: [],
    ...given,
  };
}
