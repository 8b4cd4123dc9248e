import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MeshError } from '../base/errors.ts';
import { specToWire } from '../rpc/convert-spec.ts';
import { spec, type TestCluster, tcp, testCluster } from './manager.test-data.ts';

let cluster: TestCluster;
beforeEach(async () => {
  cluster = await testCluster();
});
afterEach(() => cluster.stop());

const running = async (service: string) =>
  (await cluster.tasks(service)).filter((task) => task.status?.state === 'running');
const nodes = async () => (await cluster.control.listNodes({})).nodes;
const endpoints = (
  assignment: { ports: { published: number; endpoints: { taskId: string; weight: number }[] }[] } | undefined,
  port: number,
) => assignment?.ports.find(({ published }) => published === port)?.endpoints ?? [];

describe('apply', () => {
  test('tasks are spread over nodes, run, and every node knows all endpoints', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    const reply = await cluster.apply(spec('web', { replicas: 4, ports: [tcp(8080)] }));
    expect(reply.services).toMatchObject([{ name: 'web', action: 'created', changes: [] }]);
    await cluster.until(async () => (await running('web')).length === 4);
    await cluster.until(
      () => endpoints(one.assignment, 8080).length === 4 && endpoints(two.assignment, 8080).length === 4,
    );
    expect(one.assignment!.tasks).toHaveLength(2);
    expect(two.assignment!.tasks).toHaveLength(2);
    expect(one.snapshots).toBe(1);
    const [service] = (await cluster.control.listServices({})).services;
    expect(service).toMatchObject({ name: 'web', running: 4, desired: 4 });
    expect(await cluster.control.status({})).toMatchObject({
      services: 1,
      tasksRunning: 4,
      tasksDesired: 4,
      nodesReady: 2,
      nodes: 2,
    });
  });

  test('unchanged is no write; changes are told in words; dry run changes nothing', async () => {
    await cluster.apply(spec('web', { ports: [tcp(8080)] }));
    const { revision } = cluster.store as unknown as { revision(): number };
    const before = revision();
    expect((await cluster.apply(spec('web', { ports: [tcp(8080)] }))).services[0]).toMatchObject({
      action: 'unchanged',
    });
    const changed = [spec('web', { replicas: 5, ports: [tcp(8080), tcp(9090)] })].map(specToWire);
    expect((await cluster.control.apply({ services: changed, dryRun: true })).services[0]).toMatchObject({
      action: 'updated',
      changes: ['replicas 1 → 5', 'port 9090:80/tcp added'],
    });
    expect((await cluster.control.listServices({})).services[0]?.spec?.replicas).toBe(1);
    expect(revision()).toBeLessThanOrEqual(before + 1); // the pending task of the first apply may have come in between
  });

  test('two requests for one port at the same time: one gets it, and all of a request or nothing is stored', async () => {
    const results = await Promise.allSettled([
      cluster.apply(spec('a', { ports: [tcp(80)] }), spec('with-a')),
      cluster.apply(spec('b', { ports: [tcp(80)] }), spec('with-b')),
    ]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const lost = results.find((result) => result.status === 'rejected')!;
    expect(lost.reason).toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/port '80\/tcp' is already in use by service '[ab]'/),
    });
    const names = (await cluster.control.listServices({})).services.map(({ name }) => name);
    expect([
      ['a', 'with-a'],
      ['b', 'with-b'],
    ]).toContainEqual(names);
  });

  test('ports may change hands within one request', async () => {
    await cluster.apply(spec('a', { ports: [tcp(80)] }), spec('b', { ports: [tcp(81)] }));
    const { services } = await cluster.apply(spec('a', { ports: [tcp(81)] }), spec('b', { ports: [tcp(80)] }));
    expect(services.map(({ action }) => action)).toEqual(['updated', 'updated']);
    await expect(cluster.apply(spec('a', { ports: [tcp(80)] }))).rejects.toMatchObject({ code: 'conflict' });
  });

  test('automatic ports differ between services of one request, and stay', async () => {
    const auto = [{ protocol: 'tcp' as const, target: 80, mode: 'ingress' as const }];
    await cluster.apply(spec('a', { ports: auto }), spec('b', { ports: auto }));
    const ports = async () =>
      (await cluster.control.listServices({})).services.map(({ spec }) => spec?.ports[0]?.published);
    expect(await ports()).toEqual([30_000, 30_001]);
    expect(
      (await cluster.apply(spec('b', { ports: auto }), spec('a', { ports: auto }))).services.map(
        ({ action }) => action,
      ),
    ).toEqual(['unchanged', 'unchanged']);
    await cluster.apply(spec('c', { ports: auto }), spec('a', { ports: auto, replicas: 2 }));
    expect(await ports()).toEqual([30_000, 30_001, 30_002]);
  });

  test.each<[string, () => Promise<unknown>, string, RegExp]>([
    ['a service twice', () => cluster.apply(spec('a'), spec('a')), 'invalid', /service a is given twice/],
    [
      'a port twice',
      () => cluster.apply(spec('a', { ports: [tcp(80), tcp(80, 81)] })),
      'invalid',
      /publishes port 80\/tcp twice/,
    ],
    ['10^9 replicas', () => cluster.apply(spec('a', { replicas: 1e9 })), 'invalid', /replicas/],
    [
      'an unknown name to scale',
      () => cluster.control.scale({ targets: [{ service: 'x', replicas: 1 }] }),
      'not-found',
      /no service "x"; there are no services/,
    ],
    [
      'an unknown name to remove',
      () => cluster.control.removeServices({ services: ['x'] }),
      'not-found',
      /no service "x"/,
    ],
    ['an unknown node', () => cluster.control.removeNode({ node: 'x', force: true }), 'not-found', /no node "x"/],
  ])('refuses %s', async (_, call, code, message) => {
    await expect(call()).rejects.toMatchObject({ code, message: expect.stringMatching(message) });
    expect((await cluster.control.listServices({})).services).toEqual([]);
  });

  test('a full disk is said so, and nothing has changed', async () => {
    cluster.store.onTransact = () => {
      throw new MeshError('exhausted', 'no space left');
    };
    await expect(cluster.apply(spec('a'))).rejects.toMatchObject({ code: 'exhausted', message: 'no space left' });
    expect((await cluster.control.listServices({})).services).toEqual([]);
    cluster.store.onTransact = () => {};
    await cluster.apply(spec('a'));
  });
});

describe('scale and removal', () => {
  test('tasks leave the balancers first, wait for connections, then stop', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(8080)], stopGracePeriod: 60_000 }));
    await cluster.until(() => endpoints(one.assignment, 8080).length === 2);
    const leaving = (await cluster.tasks('web')).find(({ slot }) => slot === 2)!;
    one.connections.set(leaving.id, 1);
    await cluster.control.scale({ targets: [{ service: 'web', replicas: 1 }] });
    await cluster.until(() =>
      endpoints(two.assignment, 8080).some(({ taskId, weight }) => taskId === leaving.id && weight === 0),
    );
    await cluster.pass(5_000);
    expect((await cluster.tasks('web')).find(({ id }) => id === leaving.id)).toMatchObject({ desired: 'drain' });
    one.connections.clear();
    await cluster.until(async () => (await cluster.tasks('web')).length === 1);
    await cluster.until(
      () => endpoints(one.assignment, 8080).length === 1 && endpoints(two.assignment, 8080).length === 1,
    );
  });

  test('a node that does not acknowledge holds a drain up, until the grace period is over', async () => {
    await cluster.agent('node1');
    const two = await cluster.agent('node2');
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(8080)], stopGracePeriod: 8_000 }));
    await cluster.until(async () => (await running('web')).length === 2);
    two.works = false;
    await cluster.control.scale({ targets: [{ service: 'web', replicas: 0 }] });
    await cluster.pass(6_000);
    expect(await running('web')).toHaveLength(2);
    await cluster.pass(3_000);
    expect((await cluster.tasks('web')).every(({ desired }) => desired === 'shutdown')).toBe(true);
    two.works = true;
    two.acknowledge();
  });

  test('a removed service keeps its port without new connections until its tasks are gone; another may take it over', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(8080)], stopGracePeriod: 60_000 }));
    await cluster.until(() => endpoints(one.assignment, 8080).length === 1);
    const [task] = await cluster.tasks('web');
    one.connections.set(task!.id, 3);
    expect(await cluster.control.removeServices({ services: ['web'] })).toMatchObject({ names: ['web'] });
    await cluster.until(() => endpoints(one.assignment, 8080)[0]?.weight === 0);
    await cluster.apply(spec('other', { ports: [tcp(8080)] }));
    await cluster.until(
      () => one.assignment!.ports[0]?.serviceName === 'other' && endpoints(one.assignment, 8080)[0]?.weight === 1,
    );
    one.connections.clear();
    await cluster.until(async () => (await cluster.tasks()).every(({ serviceName }) => serviceName === 'other'));
    expect(one.assignment!.ports).toHaveLength(1);
    await cluster.control.removeServices({ services: ['other'] });
    await cluster.until(() => one.assignment!.ports.length === 0 && one.assignment!.tasks.length === 0);
    expect(
      (await cluster.control.listTasks({ service: undefined, node: undefined, includeEnded: true })).tasks,
    ).toEqual([]);
  });

  test('services are found by name, id and the beginning of an id', async () => {
    const { services } = await cluster.apply(spec('a'), spec('b'));
    await cluster.control.scale({ targets: [{ service: services[0]!.id.slice(0, 8), replicas: 3 }] });
    expect((await cluster.control.listServices({})).services[0]).toMatchObject({ name: 'a', desired: 3 });
    await expect(cluster.control.removeServices({ services: ['a', 'zz'] })).rejects.toMatchObject({
      message: expect.stringMatching(/no service "zz"; there are: a, b/),
    });
    expect((await cluster.control.removeServices({ services: ['a', services[0]!.id] })).names).toEqual(['a']);
  });
});

describe('tasks', () => {
  test('one that fails is replaced at once, and its endpoint leaves', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(80)] }));
    await cluster.until(() => endpoints(one.assignment, 80).length === 1);
    const [first] = await cluster.tasks('web');
    one.report(first!.id, 'failed');
    await cluster.until(async () => (await running('web')).some(({ id }) => id !== first!.id));
    await cluster.until(() => endpoints(one.assignment, 80).every(({ taskId }) => taskId !== first!.id));
    const all = (await cluster.control.listTasks({ service: 'web', node: undefined, includeEnded: true })).tasks;
    expect(all.find(({ id }) => id === first!.id)?.status).toMatchObject({ state: 'failed', error: 'exit status 1' });
  });

  test('one that keeps failing is started later and later, with nothing but a timer', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web'));
    for (let round = 0; round < 3; round += 1) {
      await cluster.until(async () => (await running('web')).length === 1);
      one.report((await running('web'))[0]!.id, 'failed');
      await cluster.until(async () => (await running('web')).length === 0);
    }
    await cluster.pass(1_500);
    expect(await running('web')).toEqual([]);
    await cluster.until(async () => (await running('web')).length === 1);
  });

  test('without a suitable node they wait and say why, and start when one comes', async () => {
    await cluster.agent('node1');
    await cluster.apply(spec('web', { constraints: [{ key: 'node.labels.zone', operator: '==', value: 'a' }] }));
    await cluster.until(async () => (await cluster.tasks('web'))[0]?.status?.state === 'pending');
    expect((await cluster.tasks('web'))[0]?.status?.message).toMatch(
      /no suitable node: of 1, 1 not node.labels.zone == a/,
    );
    await cluster.control.updateNode({
      node: 'node1',
      setLabels: { zone: 'a' },
      removeLabels: [],
      availability: undefined,
    });
    await cluster.until(async () => (await running('web')).length === 1);
    await cluster.control.updateNode({ node: 'node1', setLabels: {}, removeLabels: ['zone'], availability: undefined });
    await cluster.until(async () => (await cluster.tasks('web'))[0]?.status?.state === 'pending');
  });

  test('a report about a task of another node, an unknown one, or back in time changes nothing', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { constraints: [{ key: 'node.hostname', operator: '==', value: 'node1' }] }));
    await cluster.until(async () => (await running('web')).length === 1);
    const [task] = await cluster.tasks('web');
    two.report(task!.id, 'failed');
    two.report('nosuchtask', 'failed');
    one.report(task!.id, 'starting');
    await cluster.pass(500);
    expect((await cluster.tasks('web')).map(({ id, status }) => [id, status?.state])).toEqual([[task!.id, 'running']]);
  });
});

describe('nodes', () => {
  test('one that falls silent is down after three heartbeats; its endpoints leave, its tasks run elsewhere', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(80)] }));
    await cluster.until(() => endpoints(one.assignment, 80).length === 2);
    two.heartbeats = false;
    two.works = false;
    await cluster.pass(5_000);
    expect((await nodes()).map(({ state }) => state)).toEqual(['ready', 'ready']);
    await cluster.pass(2_000);
    expect((await nodes()).map(({ state }) => state)).toEqual(['ready', 'down']);
    expect(await two.over).toMatchObject({ code: 'unavailable', message: expect.stringMatching(/no heartbeat/) });
    await cluster.until(() => one.assignment!.tasks.length === 2 && endpoints(one.assignment, 80).length === 2);
    const back = await cluster.agent('node2', { nodeId: two.nodeId, underlay: '192.0.2.2' });
    expect(back.nodeId).toBe(two.nodeId);
    await cluster.until(() => back.assignment!.tasks.length === 0);
    expect((await nodes()).map(({ state }) => state)).toEqual(['ready', 'ready']);
    expect(one.assignment!.tasks).toHaveLength(2);
  });

  test('a broken stream alone is no reason: who is back in time was never away', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(80)] }));
    await cluster.until(() => endpoints(one.assignment, 80).length === 1);
    const before = await nodes();
    one.close();
    await cluster.pass(3_000);
    const again = await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1' });
    expect(endpoints(again.assignment, 80)).toHaveLength(1);
    expect((await nodes())[0]).toMatchObject({ state: 'ready', stateSince: before[0]!.stateSince, number: 1 });
  });

  test('a second session of a node replaces the first', async () => {
    const one = await cluster.agent('node1');
    const two = await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1' });
    expect(await one.over).toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/another session of node node1/),
    });
    await cluster.apply(spec('web'));
    await cluster.until(() => two.assignment!.tasks.length === 1);
  });

  test('another machine with the name or the address of a connected one is refused', async () => {
    await cluster.agent('node1');
    await expect(cluster.agent('node1', { underlay: '192.0.2.77' })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/--name/),
    });
    await expect(cluster.agent('node9', { underlay: '192.0.2.1' })).rejects.toMatchObject({
      code: 'conflict',
      message: expect.stringMatching(/--advertise/),
    });
  });

  test.each<[string, Record<string, unknown>]>([
    ['name', { name: '../x' }],
    ['address', { underlay: '192.0.2' }],
    ['loopback address', { underlay: '127.0.0.1' }],
    ['role', { role: 'king' }],
  ])('a hello with a bad %s is refused', async (_, hello) => {
    await expect(cluster.agent('node1', hello)).rejects.toMatchObject({ code: 'invalid' });
    expect(await nodes()).toEqual([]);
  });

  test('labels: the agent gives its own, people theirs, and neither loses what the other did', async () => {
    const one = await cluster.agent('node1', { labels: { zone: 'a', disk: 'ssd' } });
    await cluster.control.updateNode({
      node: 'node1',
      setLabels: { zone: 'b', rack: '7' },
      removeLabels: [],
      availability: undefined,
    });
    await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1', labels: { zone: 'a', cpu: 'fast' } });
    expect((await nodes())[0]?.labels).toEqual({ zone: 'b', rack: '7', cpu: 'fast' });
  });

  test('drain moves tasks away, one after the other draining; pause keeps them', async () => {
    const one = await cluster.agent('node1');
    await cluster.agent('node2');
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(80)] }));
    await cluster.until(() => endpoints(one.assignment, 80).length === 2);
    const set = (availability: string) =>
      cluster.control.updateNode({ node: 'node1', setLabels: {}, removeLabels: [], availability });
    await set('pause');
    await cluster.pass(500);
    expect(one.assignment!.tasks).toHaveLength(1);
    await set('drain');
    await cluster.until(async () => one.assignment!.tasks.length === 0 && (await running('web')).length === 2);
    await expect(set('sleep')).rejects.toMatchObject({ code: 'invalid' });
  });

  test('removal: only when down or by force; its tasks run elsewhere, its peers forget it', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 2 }));
    await cluster.until(async () => (await running('web')).length === 2);
    await expect(cluster.control.removeNode({ node: 'node2', force: false })).rejects.toMatchObject({
      code: 'conflict',
    });
    await cluster.control.removeNode({ node: 'node2', force: true });
    expect(await two.over).toMatchObject({ code: 'conflict', message: expect.stringMatching(/removed/) });
    await cluster.until(() => one.assignment!.tasks.length === 2 && one.assignment!.peers.length === 0);
    expect((await nodes()).map(({ name }) => name)).toEqual(['node1']);
  });

  test('what a node says is wrong can be seen', async () => {
    const one = await cluster.agent('node1');
    one.conditions('no ip_vs_mh');
    await cluster.until(async () => (await nodes())[0]!.conditions.includes('no ip_vs_mh'));
    expect(one.assignment?.self).toMatchObject({ name: 'node1', number: 1, underlay: '192.0.2.1' });
    await cluster.until(async () => (await nodes())[0]!.acknowledgedRevision === one.assignment!.revision);
  });
});

describe('a manager that starts again', () => {
  test('knows everything, changes nothing, and gives agents time to come back', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(80)] }));
    await cluster.until(() => endpoints(one.assignment, 80).length === 2);
    const revision = cluster.store.revision();
    const { clusterId } = cluster.manager;
    await cluster.restart();
    expect(cluster.manager.clusterId).toBe(clusterId);
    await cluster.pass(5_000);
    const again = await cluster.agent('node1', { nodeId: one.nodeId, underlay: '192.0.2.1' });
    expect(again.assignment!.ports).toEqual(one.assignment!.ports);
    expect(again.assignment!.tasks).toEqual(one.assignment!.tasks);
    expect(cluster.store.revision()).toBe(revision);
  });

  test('counts nodes that stay away as down', async () => {
    await cluster.agent('node1');
    await cluster.restart();
    await cluster.pass(12_000);
    expect((await nodes())[0]?.state).toBe('down');
  });
});

describe('plan', () => {
  test('asks every node about the state that would come, and changes nothing', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 1, ports: [tcp(80)] }));
    await cluster.until(() => endpoints(two.assignment, 80).length === 1);
    const revision = cluster.store.revision();
    const wanted = [spec('web', { replicas: 3, ports: [tcp(80)] }), spec('new', { mode: 'global', ports: [tcp(81)] })];
    const reply = await cluster.control.plan({ services: wanted.map(specToWire) });
    expect(reply.services.map(({ action }) => action)).toEqual(['updated', 'created']);
    expect(reply.nodes).toMatchObject([
      { nodeName: 'node1', nodeId: one.nodeId, steps: ['ip link add'], error: '' },
      { nodeName: 'node2', nodeId: two.nodeId, steps: ['ip link add'], error: '' },
    ]);
    for (const { probes } of [one, two]) {
      expect(endpoints(probes[0], 80)).toHaveLength(3);
      expect(endpoints(probes[0], 81)).toHaveLength(2);
    }
    expect(one.probes[0]!.tasks.length + two.probes[0]!.tasks.length).toBe(5);
    expect(cluster.store.revision()).toBe(revision);
    const now = await cluster.control.plan({ services: [] });
    expect(now.services).toEqual([]);
    expect(one.probes[1]!.ports).toEqual(one.assignment!.ports);
  });

  test('a node that does not answer or is not there shows why', async () => {
    const one = await cluster.agent('node1');
    const two = await cluster.agent('node2');
    one.answersProbes = false;
    two.close();
    await cluster.pass(200);
    const reply = cluster.control.plan({ services: [] });
    await cluster.until(() => one.probes.length === 1);
    await cluster.pass(5_000);
    expect((await reply).nodes.map(({ error }) => error)).toEqual([
      'node1 did not answer within 5 s',
      'node2 is not connected',
    ]);
  });
});

describe('watch', () => {
  test('tells what is there, that this was all, and every change after', async () => {
    await cluster.agent('node1');
    await cluster.apply(spec('a'));
    await cluster.until(async () => (await running('a')).length === 1);
    const events: string[] = [];
    const end = new AbortController();
    const watching = (async () => {
      for await (const { action, object } of cluster.control.watch(
        { services: true, tasks: true, nodes: true },
        { signal: end.signal },
      )) {
        const value = object?.value as { name?: string; serviceName?: string } | undefined;
        events.push(`${action} ${object?.$case ?? ''} ${value?.name ?? value?.serviceName ?? ''}`.trim());
      }
    })();
    await cluster.until(() => events.includes('ready'));
    expect(events).toEqual(['current node node1', 'current service a', 'current task a', 'ready']);
    await cluster.control.scale({ targets: [{ service: 'a', replicas: 0 }] });
    await cluster.control.removeServices({ services: ['a'] });
    await cluster.until(() => events.includes('removed task a'));
    expect(events).toContain('updated service a');
    expect(events).toContain('removed service a');
    end.abort();
    await expect(watching).rejects.toMatchObject({ code: 'unavailable' });
  });
});

test('with IPv6 every task has an address of both families', async () => {
  const both = await testCluster({ ipv6: true });
  const one = await both.agent('node1');
  await both.apply(spec('web', { ports: [tcp(80)] }));
  await both.until(() => endpoints(one.assignment, 80).length === 2);
  expect(one.assignment!.tasks[0]!.addresses.map(({ address }) => address)).toEqual([
    '10.252.1.5',
    'fd6d:6573:6800:1::5',
  ]);
  await both.stop();
});
