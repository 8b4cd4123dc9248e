import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { MeshError } from '../base/errors.ts';
import type { Task } from '../model/cluster.ts';
import { callContext, endpoints, spec, type TestCluster, tcp, testCluster } from './manager.test-data.ts';

let cluster: TestCluster;
beforeEach(async () => {
  cluster = await testCluster();
});
afterEach(() => cluster.stop());

const running = async (service: string) =>
  (await cluster.tasks(service)).filter((task) => task.status?.state === 'running');

describe('apply', () => {
  test('tasks are spread over nodes and run, and every node is assigned all endpoints', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    const reply = await cluster.apply(spec('web', { replicas: 4, ports: [tcp(8080)] }));
    expect(reply.services).toMatchObject([{ name: 'web', action: 'created', changes: [] }]);
    await cluster.waitUntil(async () => (await running('web')).length === 4);
    await cluster.waitUntil(
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

  test('an unchanged spec is not written; changes are described; a dry run changes nothing', async () => {
    await cluster.apply(spec('web', { ports: [tcp(8080)] }));
    const { revision } = cluster.store as unknown as { revision(): number };
    const before = revision();
    expect((await cluster.apply(spec('web', { ports: [tcp(8080)] }))).services[0]).toMatchObject({
      action: 'unchanged',
    });
    const changed = [spec('web', { replicas: 5, ports: [tcp(8080), tcp(9090)] })];
    expect((await cluster.control.apply({ services: changed, dryRun: true })).services[0]).toMatchObject({
      action: 'updated',
      changes: ['replicas 1 → 5', 'port 9090:80/tcp added'],
    });
    expect((await cluster.control.listServices({})).services[0]?.spec?.replicas).toBe(1);
    expect(revision()).toBeLessThanOrEqual(before + 1); // the pending task of the first apply may be stored in between
  });

  test('of two concurrent requests for one port one succeeds, and each request is stored as a whole or not at all', async () => {
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

  test('a port may move between services within one request', async () => {
    await cluster.apply(spec('a', { ports: [tcp(80)] }), spec('b', { ports: [tcp(81)] }));
    const { services } = await cluster.apply(spec('a', { ports: [tcp(81)] }), spec('b', { ports: [tcp(80)] }));
    expect(services.map(({ action }) => action)).toEqual(['updated', 'updated']);
    await expect(cluster.apply(spec('a', { ports: [tcp(80)] }))).rejects.toMatchObject({ code: 'conflict' });
  });

  test('automatic ports differ between services of one request, and are kept', async () => {
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
    ['a service twice', () => cluster.apply(spec('a'), spec('a')), 'invalid', /service a is specified twice/],
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

  test('a full disk is reported, and nothing is changed', async () => {
    cluster.store.onTransact = () => {
      throw new MeshError('exhausted', 'no space left');
    };
    await expect(cluster.apply(spec('a'))).rejects.toMatchObject({ code: 'exhausted', message: 'no space left' });
    expect((await cluster.control.listServices({})).services).toEqual([]);
    cluster.store.onTransact = () => {};
    await cluster.apply(spec('a'));
  });
});

test('the consequences of a request are decided before the reply', async () => {
  await cluster.agent('node1');
  const { control } = cluster.manager.handlers;
  const context = callContext();
  const desired = () => cluster.store.list<Task>('tasks').filter(({ desired }) => desired === 'running');
  const services = [spec('web', { replicas: 4, ports: [tcp(8080)] })];
  await control.apply({ services, dryRun: false }, context);
  expect(desired()).toHaveLength(4);
  await cluster.waitUntil(async () => (await running('web')).length === 4);
  await control.scale({ targets: [{ service: 'web', replicas: 1 }] }, context);
  expect(desired()).toHaveLength(1);
  // A decision that cannot be stored is retried later; the request itself was stored, so the call succeeds.
  let commits = 0;
  cluster.store.onTransact = () => {
    commits += 1;
    if (commits > 1) throw new MeshError('exhausted', 'no space left');
  };
  await control.removeServices({ services: ['web'] }, context);
  expect(desired()).toHaveLength(1);
  cluster.store.onTransact = () => {};
  await cluster.waitUntil(() => desired().length === 0);
});

describe('scale and removal', () => {
  test('tasks are first removed from the balancers, then wait for connections, then stop', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(8080)], stopGracePeriod: 60_000 }));
    await cluster.waitUntil(() => endpoints(one.assignment, 8080).length === 2);
    const leaving = (await cluster.tasks('web')).find(({ slot }) => slot === 2)!;
    one.connections.set(leaving.id, 1);
    await cluster.control.scale({ targets: [{ service: 'web', replicas: 1 }] });
    await cluster.waitUntil(() =>
      endpoints(two.assignment, 8080).some(({ taskId, weight }) => taskId === leaving.id && weight === 0),
    );
    await cluster.advanceTime(5_000);
    expect((await cluster.tasks('web')).find(({ id }) => id === leaving.id)).toMatchObject({ desired: 'drain' });
    one.connections.clear();
    await cluster.waitUntil(async () => (await cluster.tasks('web')).length === 1);
    await cluster.waitUntil(
      () => endpoints(one.assignment, 8080).length === 1 && endpoints(two.assignment, 8080).length === 1,
    );
  });

  test('a node that does not acknowledge delays a drain until the grace period is over', async () => {
    await cluster.agent('node1');
    const two = await cluster.agent('node2');
    await cluster.apply(spec('web', { replicas: 2, ports: [tcp(8080)], stopGracePeriod: 8_000 }));
    await cluster.waitUntil(async () => (await running('web')).length === 2);
    two.responds = false;
    await cluster.control.scale({ targets: [{ service: 'web', replicas: 0 }] });
    await cluster.advanceTime(6_000);
    expect(await running('web')).toHaveLength(2);
    await cluster.advanceTime(3_000);
    expect((await cluster.tasks('web')).every(({ desired }) => desired === 'shutdown')).toBe(true);
    two.responds = true;
    two.acknowledge();
  });

  test('a removed service keeps its port for open connections until its tasks have ended; a new service gets it at once', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(8080)], stopGracePeriod: 60_000 }));
    await cluster.waitUntil(() => endpoints(one.assignment, 8080).length === 1);
    const [task] = await cluster.tasks('web');
    one.connections.set(task!.id, 3);
    expect(await cluster.control.removeServices({ services: ['web'] })).toMatchObject({ names: ['web'] });
    expect((await cluster.control.listServices({})).services).toEqual([]);
    await cluster.waitUntil(() => endpoints(one.assignment, 8080)[0]?.weight === 0);
    await cluster.apply(spec('other', { ports: [tcp(8080)] }));
    const behind = () => endpoints(one.assignment, 8080).map(({ taskId, weight }) => [taskId === task!.id, weight]);
    await cluster.waitUntil(() => behind().length === 2);
    // Open connections stay, new ones reach the new service.
    expect(one.assignment!.ports).toMatchObject([{ serviceName: 'other' }]);
    expect(behind()).toEqual([
      [true, 0],
      [false, 1],
    ]);
    one.connections.clear();
    await cluster.waitUntil(async () => (await cluster.tasks()).every(({ serviceName }) => serviceName === 'other'));
    await cluster.waitUntil(() => behind().length === 1);
    await cluster.control.removeServices({ services: ['other'] });
    await cluster.waitUntil(() => one.assignment!.ports.length === 0 && one.assignment!.tasks.length === 0);
    expect((await cluster.control.listTasks({ includeEnded: true })).tasks).toEqual([]);
    await cluster.waitUntil(() => cluster.store.list('services').length === 0);
  });

  test('services are found by name, id and id prefix', async () => {
    const { services } = await cluster.apply(spec('a'), spec('b'));
    await cluster.control.scale({ targets: [{ service: services[0]!.id.slice(0, 8), replicas: 3 }] });
    expect((await cluster.control.listServices({})).services[0]).toMatchObject({ name: 'a', desired: 3 });
    await expect(cluster.control.removeServices({ services: ['a', 'zz'] })).rejects.toMatchObject({
      message: expect.stringMatching(/no service "zz"; existing services: a, b/),
    });
    expect((await cluster.control.removeServices({ services: ['a', services[0]!.id] })).names).toEqual(['a']);
  });
});

describe('tasks', () => {
  test('one that fails is replaced at once, and its endpoint is removed', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web', { ports: [tcp(80)] }));
    await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 1);
    const [first] = await cluster.tasks('web');
    one.report(first!.id, 'failed');
    await cluster.waitUntil(async () => (await running('web')).some(({ id }) => id !== first!.id));
    await cluster.waitUntil(() => endpoints(one.assignment, 80).every(({ taskId }) => taskId !== first!.id));
    const all = (await cluster.control.listTasks({ service: 'web', includeEnded: true })).tasks;
    expect(all.find(({ id }) => id === first!.id)?.status).toMatchObject({ state: 'failed', error: 'exit status 1' });
  });

  test('one that keeps failing is restarted with increasing delays, by a timer only', async () => {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web'));
    for (let round = 0; round < 3; round += 1) {
      await cluster.waitUntil(async () => (await running('web')).length === 1);
      one.report((await running('web'))[0]!.id, 'failed');
      await cluster.waitUntil(async () => (await running('web')).length === 0);
    }
    await cluster.advanceTime(1_500);
    expect(await running('web')).toEqual([]);
    await cluster.waitUntil(async () => (await running('web')).length === 1);
  });

  test('without a suitable node they are pending with a reason, and start when one joins', async () => {
    await cluster.agent('node1');
    await cluster.apply(spec('web', { constraints: [{ key: 'node.labels.zone', operator: '==', value: 'a' }] }));
    await cluster.waitUntil(async () => (await cluster.tasks('web'))[0]?.status?.state === 'pending');
    expect((await cluster.tasks('web'))[0]?.status?.message).toMatch(
      /no suitable node: of 1, 1 not node.labels.zone == a/,
    );
    await cluster.control.updateNode({
      node: 'node1',
      setLabels: { zone: 'a' },
      removeLabels: [],
    });
    await cluster.waitUntil(async () => (await running('web')).length === 1);
    await cluster.control.updateNode({ node: 'node1', setLabels: {}, removeLabels: ['zone'] });
    await cluster.waitUntil(async () => (await cluster.tasks('web'))[0]?.status?.state === 'pending');
  });

  test('a report about a task of another node, an unknown task, or an earlier state is ignored', async () => {
    const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
    await cluster.apply(spec('web', { constraints: [{ key: 'node.hostname', operator: '==', value: 'node1' }] }));
    await cluster.waitUntil(async () => (await running('web')).length === 1);
    const [task] = await cluster.tasks('web');
    two.report(task!.id, 'failed');
    two.report('nosuchtask', 'failed');
    one.report(task!.id, 'starting');
    await cluster.advanceTime(500);
    expect((await cluster.tasks('web')).map(({ id, status }) => [id, status?.state])).toEqual([[task!.id, 'running']]);
  });
});
