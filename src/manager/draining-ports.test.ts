import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Service, Task } from '../model/cluster.ts';
import type { PortSpec } from '../model/spec.ts';
import { endpoints, spec, type TestCluster, tcp, testCluster } from './manager.test-data.ts';

let cluster: TestCluster;
beforeEach(async () => {
  cluster = await testCluster();
});
afterEach(() => cluster.stop());

const running = async (service: string) =>
  (await cluster.tasks(service)).filter((task) => task.status?.state === 'running' && task.desired === 'running');
const weights = (agent: Awaited<ReturnType<TestCluster['agent']>>, published: number) =>
  endpoints(agent.assignment, published).map(({ weight }) => weight);
const host = (published?: number): PortSpec => ({
  protocol: 'tcp',
  target: 80,
  mode: 'host',
  ...(published === undefined ? {} : { published }),
});
const stored = () => cluster.store.list<Task>('tasks');

describe('a manager that restarts during a drain', () => {
  test('continues it with the same deadline and waits for open connections', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(80)], stopGracePeriod: 30_000 }));
    await cluster.waitUntil(() => weights(one, 80).length === 1);
    const [task] = await cluster.tasks('web');
    one.connections.set(task!.id, 1);
    await cluster.control.scale({ targets: [{ service: 'web', replicas: 0 }] });
    await cluster.waitUntil(() => weights(one, 80)[0] === 0);
    const { drainDeadline, drainRevision } = stored()[0]!;
    await cluster.restart();
    const again = await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1' }, one.connections);
    expect(weights(again, 80)).toEqual([0]);
    await cluster.advanceTime(20_000);
    expect(stored()).toMatchObject([{ desired: 'drain', drainDeadline, drainRevision }]);
    await cluster.advanceTime(8_000);
    await cluster.waitUntil(() => stored().every(({ desired }) => desired === 'shutdown'));
    expect(cluster.clock.now()).toBeGreaterThanOrEqual(drainDeadline!);
  });

  test.each<[string, () => Promise<unknown>]>([
    ['removal of a service', () => cluster.control.removeServices({ services: ['web'] })],
    ['removal of a port', () => cluster.apply(spec('web', { ports: [], stopGracePeriod: 60_000 }))],
  ])('%s: open connections continue', async (_, end) => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(80)], stopGracePeriod: 60_000 }));
    await cluster.waitUntil(() => weights(one, 80).length === 1);
    const [task] = await cluster.tasks('web');
    one.connections.set(task!.id, 1);
    await end();
    await cluster.waitUntil(() => weights(one, 80)[0] === 0);
    await cluster.advanceTime(1_000);
    await cluster.restart();
    const again = await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1' }, one.connections);
    await cluster.advanceTime(10_000);
    expect(weights(again, 80)).toEqual([0]);
    expect(again.assignment!.tasks).toMatchObject([{ id: task!.id, desired: 'running' }]);
    again.connections.clear();
    await cluster.waitUntil(() => again.assignment!.ports.length === 0);
    await cluster.waitUntil(() =>
      cluster.store.list<Service>('services').every(({ leaving }) => leaving === undefined),
    );
  });
});

describe('service update --force', () => {
  const force = () =>
    cluster.control.updateService({
      service: 'web',
      force: true,
      publishAdd: [],
      publishRemove: [],
    });

  test.each([
    ['start-first', 3],
    ['stop-first', 2],
  ] as const)(
    '%s: every task is replaced, and no node ever has fewer than %i real servers for new connections',
    async (order, least) => {
      const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
      const update = { parallelism: 1, delay: 1_000, order };
      await cluster.apply(spec('web', { replicas: 3, ports: [tcp(80)], update }));
      const open = (agent: typeof one) => weights(agent, 80).filter((weight) => weight > 0).length;
      await cluster.waitUntil(() => open(one) === 3 && open(two) === 3);
      const before = (await running('web')).map(({ id }) => id);
      const begun = cluster.clock.now();
      expect((await force()).services).toMatchObject([{ action: 'updated' }]);
      let fewest = 3;
      await cluster.waitUntil(async () => {
        fewest = Math.min(fewest, open(one), open(two));
        const now = await cluster.tasks('web');
        return now.length === 3 && now.every(({ id, status }) => !before.includes(id) && status?.state === 'running');
      });
      expect(fewest).toBe(least);
      // Three tasks are replaced with two delays in between.
      expect(cluster.clock.now() - begun).toBeGreaterThanOrEqual(2_000);
      // Applying a manifest without it does not replace the tasks again.
      expect((await cluster.apply(spec('web', { replicas: 3, ports: [tcp(80)], update }))).services).toMatchObject([
        { action: 'unchanged' },
      ]);
    },
  );
});

describe('a port that is removed from a running service', () => {
  test('is removed when its connections have ended; its tasks keep running', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(80), tcp(81)] }));
    await cluster.waitUntil(() => weights(two, 81).length === 2);
    const before = (await running('web')).map(({ id }) => id);
    for (const id of before) two.connections.set(id, 1);
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(80)] }));
    await cluster.waitUntil(() => weights(one, 81).every((weight) => weight === 0));
    await cluster.advanceTime(2_000);
    expect([weights(one, 80), weights(one, 81)]).toEqual([
      [1, 1],
      [0, 0],
    ]);
    two.connections.clear();
    await cluster.waitUntil(() => one.assignment!.ports.length === 1 && two.assignment!.ports.length === 1);
    expect((await running('web')).map(({ id }) => id)).toEqual(before);
  });
});

describe('host mode', () => {
  test('only the node of a task publishes the port; two services may share the number, but not a node', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    // Concurrently, and with more tasks than nodes.
    await Promise.all([
      cluster.apply(spec('a', { replicas: 2, ports: [host(90)] })),
      cluster.apply(spec('b', { replicas: 2, ports: [host(90)] })),
    ]);
    await cluster.waitUntil(async () => (await running('a')).length + (await running('b')).length === 2);
    await cluster.advanceTime(500);
    const held = stored().flatMap(({ nodeId, hostPorts = [] }) => hostPorts.map((key) => `${nodeId} ${key}`));
    expect(held.sort()).toEqual([`${one.nodeId} 90/tcp`, `${two.nodeId} 90/tcp`].sort());
    for (const agent of [one, two]) {
      await cluster.waitUntil(() => agent.assignment!.ports.length === 1);
      expect(agent.assignment!.ports).toMatchObject([
        { published: 90, mode: 'host', endpoints: [{ nodeId: agent.nodeId, weight: 1 }] },
      ]);
    }
    const waiting = (await cluster.tasks()).filter(({ status }) => status?.state === 'pending');
    expect(waiting.map(({ status }) => status?.message)).toEqual(
      Array(2).fill('no suitable node: of 2, 2 with host port 90/tcp in use'),
    );
    // The pending task is placed when the port is free.
    const [gone, left] = (await running('a')).length > 0 ? ['a', 'b'] : ['b', 'a'];
    await cluster.control.removeServices({ services: [gone!] });
    await cluster.waitUntil(async () => (await running(left!)).length === 2);
  });

  test('a number that the node picked is reported by the task', async () => {
    const one = await cluster.agent('node1');
    const two = await cluster.agent('node2');
    await cluster.apply(spec('web', { ports: [host()] }));
    await cluster.waitUntil(async () => (await running('web')).length === 1);
    const [task] = await running('web');
    const [mine, other] = task!.nodeId === one.nodeId ? [one, two] : [two, one];
    expect(mine!.assignment!.tasks[0]?.pick).toEqual([{ protocol: 'tcp', port: 80 }]);
    expect(mine!.assignment!.ports).toEqual([]);
    mine!.report(task!.id, 'running', { ports: [{ protocol: 'tcp', target: 80, published: 31_000 }] });
    await cluster.waitUntil(() => mine!.assignment!.ports.length === 1);
    expect(mine!.assignment!.ports).toMatchObject([{ published: 31_000, endpoints: [{ taskId: task!.id }] }]);
    expect(other!.assignment!.ports).toEqual([]);
    expect((await cluster.control.listPorts({})).ports[0]?.tasks).toMatchObject([{ published: 31_000 }]);
  });
});

describe('nodes and weights', () => {
  const label = (node: string, setLabels: Record<string, string>) =>
    cluster.control.updateNode({ node, setLabels, removeLabels: [] });

  test('a changed label takes effect at once on the nodes of a port and on weights', async () => {
    const one = await cluster.agent('node1', { labels: { edge: 'yes' } });
    const two = await cluster.agent('node2');
    const nodes = [{ key: 'node.labels.edge', operator: '==' as const, value: 'yes' }];
    await cluster.apply(spec('web', { ports: [{ ...tcp(80), nodes }], weight: { label: 'cores', default: 1 } }));
    await cluster.waitUntil(() => weights(one, 80).length === 1);
    expect(two.assignment!.ports).toEqual([]);
    await label('node1', { cores: '16' });
    await cluster.waitUntil(() => weights(one, 80)[0] === 16);
    await label('node2', { edge: 'yes' });
    await cluster.waitUntil(() => weights(two, 80)[0] === 16);
    await label('node1', { edge: 'no' });
    await cluster.waitUntil(() => one.assignment!.ports.length === 0);
    expect([one.snapshots, two.snapshots]).toEqual([1, 1]);
  });

  test('endpoints are in the order in which they joined, and last again after they return', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { mode: 'global', ports: [tcp(80)] }));
    await cluster.waitUntil(() => weights(one, 80).length === 2);
    const order = () => endpoints(one.assignment, 80).map(({ nodeId }) => nodeId);
    const [first, second] = order();
    const away = first === one.nodeId ? one : two;
    // A node is down for longer than its task stays in the balancers, and returns with that task.
    away.close();
    await cluster.advanceTime(31_000);
    const seen = away === one ? two : one;
    await cluster.waitUntil(() => endpoints(seen.assignment, 80).length === 1);
    const address = away === one ? '192.0.2.1' : '192.0.2.2';
    const ids = (await cluster.tasks('web')).filter(({ nodeId }) => nodeId === first).map(({ id }) => id);
    const tasks = ids.map((taskId) => ({
      taskId,
      status: { state: 'running' as const, message: '', error: '', since: 1, pid: 7 },
    }));
    await cluster.agent(away === one ? 'node1' : 'node2', { nodeId: away.nodeId, underlay: address, tasks });
    await cluster.waitUntil(() => endpoints(seen.assignment, 80).length === 2);
    expect(endpoints(seen.assignment, 80).map(({ nodeId }) => nodeId)).toEqual([second, first]);
  });
});

describe('health', () => {
  const health = {
    probe: { kind: 'tcp' as const, port: 80 },
    interval: 1_000,
    timeout: 1_000,
    retries: 3,
    startPeriod: 0,
    startInterval: 1_000,
  };

  test('a task is an endpoint only while healthy; an unhealthy one ends as failed', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(80)], health }));
    await cluster.waitUntil(async () => (await running('web')).length === 1);
    const [task] = await running('web');
    expect(one.assignment!.tasks).toMatchObject([{ health }]);
    await cluster.advanceTime(200);
    expect(weights(one, 80)).toEqual([]);
    one.report(task!.id, 'running', { health: 'healthy' });
    await cluster.waitUntil(() => weights(one, 80)[0] === 1);
    // A restarted agent has no result yet: the last one is kept.
    one.report(task!.id, 'running', { health: 'starting' });
    await cluster.advanceTime(200);
    expect(weights(one, 80)).toEqual([1]);
    one.connections.set(task!.id, 1);
    one.report(task!.id, 'running', { health: 'unhealthy', message: 'timed out' });
    await cluster.waitUntil(() => weights(one, 80)[0] === 0);
    await cluster.waitUntil(async () => (await running('web')).some(({ id }) => id !== task!.id));
    one.connections.clear();
    const ended = async () =>
      (await cluster.control.listTasks({ service: 'web', includeEnded: true })).tasks.find(({ id }) => id === task!.id)
        ?.status;
    await cluster.waitUntil(async () => (await ended())?.state === 'failed');
    expect(await ended()).toMatchObject({ error: 'unhealthy: timed out' });
  });
});
