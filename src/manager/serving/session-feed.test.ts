import fc from 'fast-check';
import { expect, test } from 'vitest';
import { assignment } from '../../decide/assign.ts';
import type { Assignment } from '../../model/assignment.ts';
import { applyAssignmentDelta } from '../../model/assignment-delta.ts';
import type { Network, Node, Service, Stored, Task } from '../../model/cluster.ts';
import { newGeneration } from '../../model/generation.ts';
import type { PortSpec } from '../../model/spec.ts';
import type { AgentMessage, ManagerMessage } from '../../rpc/messages.ts';
import type { Duplex } from '../../rpc/session.ts';
import type { Collection, Store, Write } from '../../store/store.ts';
import { put, remove } from '../leading/writer.ts';
import { fakeClock, memoryStore, spec } from '../manager.test-data.ts';
import { assignmentChanges } from './assignment-changes.ts';
import { createClusterIndex } from './cluster-index.ts';
import { createPortTable } from './port-table.ts';
import { createSessionFeed } from './session-feed.ts';

const stored = { version: 0, createdAt: 1, updatedAt: 1 };
const network: Network = {
  ...stored,
  id: 'ingress',
  name: 'ingress',
  vni: 4096,
  subnets: [{ family: 'inet', cidr: '10.252.0.0/14', blockPrefix: 24 }],
};

function node(number: number, more: Partial<Node> = {}): Node {
  const base = { ...stored, id: `n${number}`, name: `node${number}`, number, role: 'worker' as const, labels: {} };
  const about = { underlay: `192.0.2.${number}`, stateSince: 0, agentVersion: '', kernelRelease: '' };
  return { ...base, ...about, availability: 'active', state: 'ready', ...more };
}

function task(id: string, serviceId: string, nodeId: string | undefined, more: Partial<Task>): Task {
  const number = nodeId?.slice(1) ?? '0';
  return {
    ...stored,
    id,
    serviceId,
    serviceName: serviceId,
    slot: 1,
    ...(nodeId === undefined ? {} : { nodeId }),
    generation: 1,
    stopGracePeriod: 10_000,
    addresses:
      nodeId === undefined ? [] : [{ networkId: 'ingress', address: `10.252.${number}.${10 + Number(id.slice(1))}` }],
    desired: 'running',
    status: { state: 'running', message: '', error: '', since: 1 },
    restarts: 0,
    ...more,
  };
}

/** Puts an object with any version, or removes it if it exists. */
function write(store: Store, collection: Collection, object: Stored | string): Write[] {
  const id = typeof object === 'string' ? object : object.id;
  const before = store.get(collection, id);
  if (typeof object === 'string') return before === undefined ? [] : [remove(collection, before)];
  return [put(collection, { ...object, version: before?.version ?? 0 })];
}

const port = fc.record({
  protocol: fc.constantFrom('tcp' as const, 'udp' as const),
  published: fc.constantFrom(80, 81, 82),
  target: fc.constantFrom(8000, 8001),
  mode: fc.constantFrom('ingress' as const, 'host' as const),
  nodes: fc.option(fc.constant([{ key: 'node.labels.zone', operator: '==' as const, value: 'a' }]), { nil: undefined }),
});
const serviceId = fc.constantFrom('s1', 's2', 's3');
const nodeId = fc.constantFrom('n1', 'n2', 'n3');
const event = fc.oneof(
  fc.record({
    kind: fc.constant('service' as const),
    id: serviceId,
    ports: fc.uniqueArray(port, { maxLength: 2, selector: ({ published, protocol }) => `${published}/${protocol}` }),
    leaving: fc.array(port, { maxLength: 1 }),
    removed: fc.boolean(),
  }),
  fc.record({ kind: fc.constant('no-service' as const), id: serviceId }),
  fc.record({
    kind: fc.constant('task' as const),
    id: fc.constantFrom('t1', 't2', 't3', 't4'),
    node: fc.option(nodeId, { nil: undefined }),
    desired: fc.constantFrom('running' as const, 'drain' as const, 'shutdown' as const),
    state: fc.constantFrom('assigned' as const, 'starting' as const, 'running' as const, 'failed' as const),
    hostPorts: fc.subarray(['80/tcp', '81/udp']),
    picked: fc.option(fc.constantFrom(82, 83), { nil: undefined }),
  }),
  fc.record({ kind: fc.constant('no-task' as const), id: fc.constantFrom('t1', 't2', 't3', 't4') }),
  fc.record({
    kind: fc.constant('node' as const),
    number: fc.constantFrom(1, 2, 3),
    state: fc.constantFrom('ready' as const, 'down' as const),
    underlay: fc.constantFrom('192.0.2.1', '192.0.2.9'),
    zone: fc.constantFrom('a', 'b'),
    impairments: fc.constantFrom<string[]>([], ['UnderlayAddressMissing'], ['DiskNearlyFull']),
  }),
  fc.record({ kind: fc.constant('no-node' as const), number: fc.constantFrom(2, 3) }),
  fc.record({ kind: fc.constant('flush' as const) }),
);

/** Which service each task belongs to: it never changes. */
const HOME_NODES = new Map([
  ['t1', 's1'],
  ['t2', 's1'],
  ['t3', 's2'],
  ['t4', 's3'],
]);

/** Some host ports without a number of their own. */
function declared({ published, nodes, ...rest }: typeof port extends fc.Arbitrary<infer T> ? T : never): PortSpec {
  const spec: PortSpec = { ...rest };
  if (rest.mode === 'ingress' || published !== 82) spec.published = published;
  if (nodes !== undefined) spec.nodes = [...nodes];
  return spec;
}

/** The same, for any order of lists and their entries. */
function normalize(value: Assignment) {
  const by = <T>(items: readonly T[], key: (item: T) => string) =>
    [...items].sort((a, b) => (key(a) < key(b) ? -1 : 1));
  return {
    ...value,
    peers: by(value.peers, ({ nodeId }) => nodeId),
    ports: by(value.ports, ({ published, protocol }) => `${published}/${protocol}`),
    tasks: by(value.tasks, ({ id }) => id),
  };
}

test('after any history the deltas add up to the whole assignment, and no port has two owners', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(fc.array(event, { minLength: 1, maxLength: 3 }), { maxLength: 25 }), async (history) => {
      const store = memoryStore();
      const clock = fakeClock();
      await store.transact([put('networks', network), put('nodes', node(1)), put('nodes', node(2))]);
      await store.transact(['s1', 's2', 's3'].map((id) => put('generations', newGeneration(id, 1, spec(id), 0))));
      const index = createClusterIndex(store);
      const table = createPortTable(index);
      let seen: Assignment | undefined;
      const stream: Duplex<AgentMessage, ManagerMessage> = {
        received: (async function* () {})(),
        async send({ message }) {
          if (message?.case === 'snapshot') seen = message.value;
          else if (message?.case === 'delta') {
            const after = applyAssignmentDelta(seen!, message.value);
            if (!after.ok) throw after.error;
            seen = after.value;
          }
        },
        end: () => {},
        closed: new AbortController().signal,
        peer: '',
      };
      const feed = createSessionFeed('n1', stream, index, table, clock);
      store.watch((changes) => {
        index.apply(changes);
        feed.onAssignmentChanges(assignmentChanges(changes, index, table));
      });
      const flush = async () => {
        for (let round = 0; round < 3; round += 1) {
          await new Promise((resolve) => setImmediate(resolve));
          clock.advance(50);
        }
      };
      for (const events of history) {
        const writes = new Map<string, Write[]>();
        for (const what of events) {
          if (what.kind === 'service') {
            // As admission would have it: one owner for each port.
            const taken = store
              .list<Service>('services')
              .filter(({ id }) => id !== what.id)
              .flatMap(({ spec: other }) => other.ports);
            const ports = what.ports.filter(
              (one) => !taken.some((other) => other.published === one.published && other.protocol === one.protocol),
            );
            if ([...writes.keys()].some((key) => key.startsWith('s'))) continue;
            const object: Service = {
              ...stored,
              id: what.id,
              name: what.id,
              taskGeneration: 1,
              spec: spec(what.id, { ports: ports.map(declared), weight: { label: 'cores', default: 2 } }),
              ...(what.leaving.length === 0
                ? {}
                : { leaving: what.leaving.map((one) => ({ port: declared(one), revision: 1, deadline: 9 })) }),
              ...(what.removed ? { removed: true as const } : {}),
            };
            writes.set(what.id, write(store, 'services', object));
          } else if (what.kind === 'no-service') {
            if ([...writes.keys()].some((key) => key.startsWith('s'))) continue;
            // As the manager does it: hidden at once, removed from the store with the last task.
            const service = store.get<Service>('services', what.id);
            const hasTasks = [...HOME_NODES].some(
              ([taskId, home]) => home === what.id && index.task(taskId) !== undefined,
            );
            const removed = hasTasks && service !== undefined ? { ...service, removed: true as const } : what.id;
            writes.set(what.id, write(store, 'services', removed));
          } else if (what.kind === 'task') {
            const home = HOME_NODES.get(what.id)!;
            const ports =
              what.picked === undefined ? [] : [{ protocol: 'tcp' as const, target: 8000, published: what.picked }];
            const status = { state: what.state, message: '', error: '', since: 1, ports };
            const { desired, hostPorts } = what;
            writes.set(what.id, write(store, 'tasks', task(what.id, home, what.node, { desired, hostPorts, status })));
          } else if (what.kind === 'no-task') writes.set(what.id, write(store, 'tasks', what.id));
          else if (what.kind === 'node')
            writes.set(
              `n${what.number}`,
              write(
                store,
                'nodes',
                node(what.number, {
                  state: what.state,
                  underlay: what.underlay,
                  labels: { zone: what.zone, cores: String(what.number) },
                  ...(what.impairments.length === 0 ? {} : { impairments: what.impairments }),
                }),
              ),
            );
          else if (what.kind === 'no-node') writes.set(`n${what.number}`, write(store, 'nodes', `n${what.number}`));
          else await flush();
        }
        await store.transact([...writes.values()].flat());
      }
      await flush();
      const self = index.node('n1')!;
      const { revision: _, ...got } = normalize(seen!);
      const { revision: __, ...want } = normalize(assignment(self, { ...index, service: index.serviceOrRemoved }));
      expect(got).toEqual(want);
      expect(new Set(got.ports.map(({ published, protocol }) => `${published}/${protocol}`)).size).toBe(
        got.ports.length,
      );
      feed.stop();
    }),
    { numRuns: 150 },
  );
});

test('a slow node gets one delta for all changes in between', async () => {
  const store = memoryStore();
  const clock = fakeClock();
  await store.transact([put('networks', network), put('nodes', node(1))]);
  const index = createClusterIndex(store);
  const table = createPortTable(index);
  const sent: ManagerMessage[] = [];
  let taken: () => void = () => {};
  const stream: Duplex<AgentMessage, ManagerMessage> = {
    received: (async function* () {})(),
    send: (message) => {
      sent.push(message);
      return new Promise((resolve) => {
        taken = resolve;
      });
    },
    end: () => {},
    closed: new AbortController().signal,
    peer: '',
  };
  const feed = createSessionFeed('n1', stream, index, table, clock);
  store.watch((changes) => {
    index.apply(changes);
    feed.onAssignmentChanges(assignmentChanges(changes, index, table));
  });
  const turn = () => new Promise((resolve) => setImmediate(resolve));
  await turn();
  for (let number = 2; number <= 50; number += 1) await store.transact([put('nodes', node(number))]);
  await store.transact([remove('nodes', index.node('n50')!)]);
  clock.advance(1_000);
  await turn();
  expect(sent.map(({ message }) => message?.case)).toEqual(['snapshot']);
  taken();
  await turn();
  clock.advance(1_000);
  await turn();
  expect(sent).toHaveLength(2);
  const { message } = sent[1]!;
  if (message?.case !== 'delta') throw new Error('no delta');
  expect(message.value.peers).toHaveLength(48);
  expect(message.value.removedPeers).toEqual(['n50']);
  feed.stop();
});
