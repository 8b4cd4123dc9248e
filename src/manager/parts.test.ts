import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { MeshError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { Network, Service, TaskStatus } from '../model/cluster.ts';
import { connectDispatch } from '../rpc/dispatch-client.ts';
import { serveLocalAgent } from '../rpc/server.ts';
import { openEmbeddedStore } from '../store/embedded.ts';
import { bootstrap } from './leading/bootstrap.ts';
import { nextStatus } from './leading/task-reports.ts';
import { createWriter, put } from './leading/writer.ts';
import { asOwner, callContext, fakeClock, memoryStore, spec, testCluster } from './manager.test-data.ts';
import { createManager } from './manager.ts';
import { createClusterIndex } from './serving/cluster-index.ts';
import { findService } from './serving/find.ts';
import { createNodeReports } from './serving/node-reports.ts';
import { createPresenter } from './serving/presenter.ts';
import { createPublications } from './serving/publications.ts';
import { createWatchFeeds } from './serving/watch-feed.ts';

const service = (id: string, name: string): Service => ({
  id,
  version: 0,
  createdAt: 1,
  updatedAt: 1,
  name,
  taskGeneration: 1,
  spec: spec(name),
});

test('bootstrap happens once and keeps the cluster id', async () => {
  const store = memoryStore();
  const id = await bootstrap(store, {}, 1);
  expect(id).toMatch(/^[0-9a-z]{12}$/);
  expect(await bootstrap(store, {}, 2)).toBe(id);
  expect(store.revision()).toBe(1);
  expect(store.list<Network>('networks')).toMatchObject([
    { name: 'ingress', vni: 4096, subnets: [{ cidr: '10.252.0.0/14', blockPrefix: 24 }] },
  ]);
  await expect(bootstrap(store, { ingressSubnet: '10.9.0.0/16' }, 3)).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(/cannot be changed/),
  });
});

test.each(['10.9.0.1/16', '10.9.0.0/24', 'fd00::/48', 'x', '10.9.0.0/33'])(
  'the ingress subnet %s is refused',
  async (ingressSubnet) => {
    await expect(bootstrap(memoryStore(), { ingressSubnet }, 1)).rejects.toMatchObject({ code: 'invalid' });
  },
);

test('a service is found by a unique prefix of its id', async () => {
  const store = memoryStore();
  await store.transact([
    put('services', service('abc1', 'one')),
    put('services', service('abc2', 'two')),
    put('services', service('x', 'abc')),
  ]);
  const index = createClusterIndex(store);
  expect(findService(index, 'abc').id).toBe('x'); // a name takes precedence
  expect(findService(index, 'abc1').name).toBe('one');
  expect(() => findService(index, 'ab')).toThrow(
    '"ab" matches the ids of 2 services (one, two): specify more characters',
  );
  expect(() => findService(index, '')).toThrow('no service ""');
});

test('a state never moves backwards, and a new one gets the time of the manager', () => {
  const status = (state: TaskStatus['state'], more: Partial<TaskStatus> = {}): TaskStatus => ({
    state,
    message: '',
    error: '',
    since: 5,
    ...more,
  });
  expect(nextStatus(status('assigned'), status('running', { since: 1 }), 9)).toEqual(status('running', { since: 9 }));
  expect(nextStatus(status('running'), status('starting'), 9)).toBeUndefined();
  expect(nextStatus(status('failed'), status('running'), 9)).toBeUndefined();
  expect(nextStatus(status('failed'), status('complete'), 9)).toBeUndefined();
  expect(nextStatus(status('running'), status('running', { since: 7 }), 9)).toBeUndefined();
  expect(nextStatus(status('running'), status('running', { message: 'new' }), 9)).toEqual(
    status('running', { message: 'new' }),
  );
});

test('the writer continues after a failure, and runs one function at a time', async () => {
  const writer = createWriter();
  const order: string[] = [];
  const work = (name: string, fails = false) =>
    writer.run(async () => {
      order.push(`${name} begins`);
      await new Promise((resolve) => setImmediate(resolve));
      order.push(`${name} ends`);
      if (fails) throw new MeshError('conflict', name);
    });
  const results = await Promise.allSettled([work('a'), work('b', true), work('c')]);
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled']);
  expect(order).toEqual(['a begins', 'a ends', 'b begins', 'b ends', 'c begins', 'c ends']);
});

test('a watcher that does not read is disconnected, the others are not', async () => {
  const store = memoryStore();
  const index = createClusterIndex(store);
  const feeds = createWatchFeeds(
    index,
    createPresenter(
      index,
      createNodeReports(index, () => false),
      createPublications(fakeClock(), () => {}),
    ),
  );
  store.watch((changes) => {
    index.apply(changes);
    feeds.onCommit(changes);
  });
  const kinds = { services: true, tasks: false, nodes: false };
  const slow = feeds.watch(kinds, new AbortController().signal);
  const fast = feeds.watch(kinds, new AbortController().signal);
  expect((await slow.next()).value).toMatchObject({ action: 'ready' });
  expect((await fast.next()).value).toMatchObject({ action: 'ready' });
  for (let round = 0; round < 5; round += 1) {
    const services = Array.from({ length: 5_000 }, (_, n) => service(`s${round}x${n}`, `s${round}x${n}`));
    await store.transact(services.map((each) => put('services', each)));
    for (let n = 0; n < 5_000; n += 1) expect((await fast.next()).value?.action).toBe('created');
  }
  await expect(slow.next()).rejects.toMatchObject({
    code: 'exhausted',
    message: expect.stringMatching(/start a new one/),
  });
});

test('decisions and statuses that cannot be stored are retried', async () => {
  const cluster = await testCluster();
  try {
    const one = await cluster.agent('node1');
    await cluster.apply(spec('web'));
    await cluster.waitUntil(async () => (await cluster.tasks('web'))[0]?.status?.state === 'running');
    let refusals = 0;
    cluster.store.onTransact = () => {
      refusals += 1;
      throw new MeshError('exhausted', 'no space left');
    };
    one.report((await cluster.tasks('web'))[0]!.id, 'failed');
    await cluster.advanceTime(2_500);
    expect(refusals).toBeGreaterThan(1);
    expect((await cluster.tasks('web'))[0]?.status?.state).toBe('running');
    cluster.store.onTransact = () => {};
    await cluster.waitUntil(async () =>
      (await cluster.tasks('web')).some(({ restarts, status }) => restarts === 1 && status?.state === 'running'),
    );
  } finally {
    await cluster.stop();
  }
});

test('a stream that does not begin with hello is rejected, one without messages is closed', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'manager-'));
  const clock = fakeClock();
  const manager = await createManager({ store: memoryStore(), clock, log: silentLog(), version: 'test' });
  const { serveSession } = manager.handlers;
  const server = await serveLocalAgent({ path: join(directory, 's'), mode: 0o600 }, serveSession, asOwner);
  manager.start();
  const connection = connectDispatch(server.address);
  const rude = connection.session();
  await rude.send({ message: { case: 'heartbeat', value: {} }, probeId: 0 });
  await expect(rude.received[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'invalid',
    message: 'a session begins with hello',
  });
  const silent = connection.session();
  const end = expect(silent.received[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(/no hello/),
  });
  await expect
    .poll(() => {
      clock.advance(1_000);
      return silent.closed.aborted;
    })
    .toBe(true);
  await end;
  connection.close();
  await manager.stop();
  await server.stop();
  rmSync(directory, { recursive: true });
});

test('on the embedded store a cluster is the same after a restart', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'manager-'));
  const open = async () => {
    const store = await openEmbeddedStore(directory, silentLog());
    const manager = await createManager({ store, clock: fakeClock(), log: silentLog(), version: 'test' });
    manager.start();
    return { store, manager, control: manager.handlers.control };
  };
  const context = callContext();
  const first = await open();
  await first.control.apply({ services: [spec('web', { replicas: 3 })], dryRun: false }, context);
  await expect.poll(() => first.store.list('tasks').length).toBe(3);
  await first.manager.stop();
  const before = await first.control.listTasks({ includeEnded: true }, context);
  await first.store.close();
  const second = await open();
  expect(second.manager.clusterId).toBe(first.manager.clusterId);
  expect(await second.control.listTasks({ includeEnded: true }, context)).toEqual(before);
  await second.manager.stop();
  await second.store.close();
  rmSync(directory, { recursive: true });
});
