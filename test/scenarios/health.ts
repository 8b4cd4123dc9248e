// Tasks with a healthcheck, host mode ports, and the health endpoint for external load balancers.
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { before, test } from 'node:test';
import {
  addressOf,
  applyManifest,
  listRows,
  meshctl,
  meshctlOn,
  nodeNames,
  type ProbeClient,
  parseWhoami,
  run,
  runOn,
  stdoutOf,
  waitFor,
} from './harness.ts';
import { clientProbe, LIGHT_LOAD, WHOAMI } from './shared.ts';

/** The hosts of the mesh share /tmp. */
const HEALTH_DIRECTORY = '/tmp/mesh-health';
const setHealthy = (sign: string) => writeFileSync(`${HEALTH_DIRECTORY}/${sign}`, '');
const clearHealthy = (sign: string) => rmSync(`${HEALTH_DIRECTORY}/${sign}`, { force: true });

/** The start period is long enough for a slow test host. */
const HEALTH_TIMINGS = { interval: '1s', timeout: '20s', retries: 2, start_period: '10m', start_interval: '1s' };
const HEALTH_FILE = `${HEALTH_DIRECTORY}/$$MESH_SERVICE.$$MESH_TASK_SLOT`;
const KINDS = {
  'by-shell': { healthcheck: { test: `test -e ${HEALTH_FILE}`, ...HEALTH_TIMINGS } },
  'by-command': { healthcheck: { test: ['CMD', 'sh', '-c', `test -e ${HEALTH_FILE}`], ...HEALTH_TIMINGS } },
  'by-tcp': { 'x-mesh': { healthcheck: { tcp: 81, ...HEALTH_TIMINGS } } },
  'by-http': { 'x-mesh': { healthcheck: { http: { port: 80, path: '/health' }, ...HEALTH_TIMINGS } } },
};
const kinds = Object.keys(KINDS);
const OTHER_SERVICES = ['clinic', 'fixed', 'picked', 'near'];
const portOf = (kind: string) => 8601 + kinds.indexOf(kind);

const service = (more: { 'x-mesh'?: object; deploy?: object; [key: string]: unknown }) => ({
  // Serves port 80 from the start, independent of its health, so that a packet that arrives too early or too late is
  // detected. /health checks whether its health file exists; port 81 is open only while it does.
  command: [WHOAMI],
  environment: { HEALTHY_IN: HEALTH_DIRECTORY, HEALTH_PORT: '81' },
  ...more,
  deploy: { replicas: 1, placement: { constraints: ['node.hostname != node1'] }, ...more.deploy },
  'x-mesh': { runtime: 'process', ...more['x-mesh'] },
});
const apply = (services: object, ...options: string[]) =>
  stdoutOf(applyManifest(JSON.stringify({ services }), '--timeout', '3m', ...options));

const tasksOf = (...names: string[]) => listRows('service', 'ps', ...names);
const currentTask = async (name: string, slot = 1) =>
  (await tasksOf(name)).find((task) => task['slot'] === slot && task['desired'] === 'running');

/** Response of a task to a request from its own netns, independent of the mesh. */
const askTask = async (task: Record<string, unknown>) =>
  stdoutOf(
    runOn(String(task['node']), 'ip', 'netns', 'exec', `mesh-task-${task['id']}`, 'curl', '-sS', 'http://127.0.0.1/'),
  );

/** Status and body of a node's health endpoint. */
/** The health endpoint of a node, asked by the client, which gets a word, or by a node, which gets details in JSON. */
async function askEndpoint(from: string, node: string, path: string): Promise<{ status: number; body: unknown }> {
  const url = `http://${addressOf(node)}:2378${path}`;
  const text = await stdoutOf(runOn(from, 'curl', '-sS', '-w', '%{http_code}', url));
  const body = text.slice(0, -3).trim();
  return { status: Number(text.slice(-3)), body: from === 'client' ? body : JSON.parse(body) };
}

const client = addressOf('client');
const url = (node: string, port: number) => `http://${addressOf(node)}:${port}/`;
const isRefused = (node: string, port: number) =>
  assert.rejects(outsideClient.http(url(node, port), { timeout: 5_000 }), /ECONNREFUSED/);
const isAnswered = async (node: string, port: number) => parseWhoami(await outsideClient.http(url(node, port)));

let outsideClient: ProbeClient;
before(async () => {
  rmSync(HEALTH_DIRECTORY, { recursive: true, force: true });
  mkdirSync(HEALTH_DIRECTORY);
  outsideClient = await clientProbe();
});
test('a task becomes an endpoint on its first healthy result: by command, shell, tcp and http', async () => {
  const services = kinds.map((kind) => [
    kind,
    service({ ports: [`${portOf(kind)}:80`], ...KINDS[kind as keyof typeof KINDS] }),
  ]);
  await apply(Object.fromEntries(services), '--detach');
  const tasks = await waitFor('running tasks that are not healthy', 180_000, async () => {
    const found = await tasksOf(...kinds);
    return found.every((task) => task['state'] === 'running' && task['message'] !== '') && found;
  });
  assert.deepEqual(
    tasks.map((task) => [task['service'], task['health']]),
    [...kinds].sort().map((kind) => [kind, 'starting']),
  );
  for (const task of tasks) assert.match(await askTask(task), new RegExp(`^${task['service']}\\.1 `));
  for (const kind of kinds) for (const node of nodeNames()) await isRefused(node, portOf(kind));
  for (const kind of kinds) setHealthy(`${kind}.1`);
  for (const kind of kinds) {
    for (const node of nodeNames()) {
      await waitFor(`${kind} to respond on ${node}`, 60_000, () =>
        isAnswered(node, portOf(kind)).catch(() => undefined),
      );
    }
  }
  for (const task of await tasksOf(...kinds)) assert.equal(task['health'], 'healthy');
});

test('an unhealthy task is removed from the balancers, even if it still serves requests', async () => {
  for (const kind of kinds) clearHealthy(`${kind}.1`);
  for (const kind of kinds) {
    await waitFor(`${kind} to be refused`, 60_000, async () => {
      const error = await outsideClient
        .http(url('node1', portOf(kind)), { timeout: 5_000 })
        .catch((thrown: Error) => thrown);
      return error instanceof Error && /ECONNREFUSED/.test(error.message);
    });
  }
  await waitFor('all tasks to fail', 120_000, async () => {
    const failed = (await tasksOf(...kinds)).filter((task) => task['state'] === 'failed');
    for (const task of failed) assert.match(String(task['error']), /^unhealthy: /);
    return new Set(failed.map((task) => task['service'])).size === kinds.length;
  });
  await stdoutOf(meshctl('service', 'rm', ...kinds));
});

test('one of several tasks: it gets no request before it is healthy, and none is lost when it is removed', async () => {
  const healthcheck = KINDS['by-shell'].healthcheck;
  setHealthy('clinic.1');
  await apply({ clinic: service({ ports: ['8605:80'], healthcheck, deploy: { replicas: 2 } }) }, '--detach');
  await waitFor('clinic.1 to respond', 120_000, () => isAnswered('node1', 8605).catch(() => undefined));
  const second = await waitFor('clinic.2 to run', 120_000, async () => {
    const task = await currentTask('clinic', 2);
    return task?.['state'] === 'running' && task;
  });
  assert.match(await askTask(second), /^clinic\.2 /);
  for (let call = 0; call < 4; call += 1) {
    for (const node of nodeNames()) assert.equal((await isAnswered(node, 8605)).task, 'clinic.1');
  }
  setHealthy('clinic.2');
  await waitFor('clinic.2 to respond', 60_000, async () => (await isAnswered('node1', 8605)).task === 'clinic.2');

  const first = await currentTask('clinic', 1);
  const urls = nodeNames().map((node) => url(node, 8605));
  await outsideClient.startLoad('leaving', urls, { parallel: 2, pause: 20 });
  clearHealthy('clinic.1');
  await waitFor(
    'clinic.1 to be replaced',
    60_000,
    async () => (await currentTask('clinic', 1))?.['id'] !== first?.['id'],
  );
  for (const node of nodeNames()) {
    for (let call = 0; call < 4; call += 1) assert.equal((await isAnswered(node, 8605)).task, 'clinic.2');
  }
  setHealthy('clinic.1');
  await waitFor('its replacement to respond', 120_000, async () => {
    const { task, id } = await isAnswered('node1', 8605);
    return task === 'clinic.1' && id !== first?.['id'];
  });
  const { failed, errors, answered } = await outsideClient.stopLoad('leaving');
  assert.deepEqual({ failed, errors }, { failed: 0, errors: {} });
  assert.ok(answered > 0);
});

test('host mode: only the task’s node responds, and preserves the client address; the others refuse at once', async () => {
  const ports = [{ target: 80, published: 8610, mode: 'host' }];
  await apply({ fixed: service({ ports, deploy: { placement: { constraints: ['node.hostname == node2'] } } }) });
  const answer = await waitFor('node2 to respond', 30_000, () => isAnswered('node2', 8610).catch(() => undefined));
  assert.deepEqual([answer.node, answer.address], ['node2', client]);
  for (const node of nodeNames().filter((name) => name !== 'node2')) await isRefused(node, 8610);
});

test('host mode without a number: the node chooses one, service ps shows it, and it works', async () => {
  await apply({ picked: service({ ports: [{ target: 80, mode: 'host' }], deploy: { replicas: 2 } }) });
  const tasks = (await tasksOf('picked')).filter((task) => task['desired'] === 'running');
  assert.equal(tasks.length, 2);
  for (const task of tasks) {
    const node = String(task['node']);
    const [{ published }] = task['ports'] as unknown as [{ published: number }];
    assert.ok(published >= 49_152, `picked ${published}`);
    const answer = await waitFor(`${node}:${published} to respond`, 30_000, () =>
      isAnswered(node, published).catch(() => undefined),
    );
    assert.deepEqual([answer.id, answer.address], [task['id'], client]);
    await isRefused('node1', published);
  }
});

test('kill -9 and restart of agents: healthy tasks and chosen ports are kept, probing continues', async () => {
  const before = (await tasksOf('picked')).filter((task) => task['desired'] === 'running');
  await outsideClient.startLoad('restart', [url('node1', 8605)], LIGHT_LOAD);
  for (const node of ['node2', 'node3']) {
    await stdoutOf(run('node-stop', [node, 'KILL']));
    await stdoutOf(run('node-start', [node]));
    await waitFor(`${node} to reconnect`, 60_000, async () => {
      const [status] = JSON.parse(await stdoutOf(meshctlOn(node, ['status', '--format', 'json'])));
      return Number(status.assignment_revision) > 0;
    });
  }
  for (const task of before) {
    const [{ published }] = task['ports'] as unknown as [{ published: number }];
    assert.equal((await isAnswered(String(task['node']), published)).id, task['id']);
  }
  const ids = (tasks: Record<string, unknown>[]) => tasks.map(({ id, ports }) => [id, ports]);
  assert.deepEqual(ids((await tasksOf('picked')).filter((task) => task['desired'] === 'running')), ids(before));
  const { failed, errors } = await outsideClient.stopLoad('restart');
  assert.deepEqual({ failed, errors }, { failed: 0, errors: {} });
  const first = await currentTask('clinic', 1);
  assert.equal(first?.['health'], 'healthy');
  clearHealthy('clinic.1');
  await waitFor(
    'clinic.1 to be replaced',
    60_000,
    async () => (await currentTask('clinic', 1))?.['id'] !== first?.['id'],
  );
});

test('traffic policy local: the health endpoint matches the nodes that respond', async () => {
  const ports = [{ target: 80, published: 8620, 'x-mesh': { policy: 'local' } }];
  await apply({ near: service({ ports, deploy: { placement: { constraints: ['node.hostname == node2'] } } }) });
  await waitFor('node2 answers', 30_000, () => isAnswered('node2', 8620).catch(() => undefined));
  assert.deepEqual(await askEndpoint('client', 'node2', '/ports/8620/tcp'), { status: 200, body: 'ok' });
  assert.deepEqual(await askEndpoint('node3', 'node2', '/ports/8620/tcp'), {
    status: 200,
    body: { port: 8620, protocol: 'tcp', service: 'near', mode: 'ingress', policy: 'local', local: 1 },
  });
  for (const node of nodeNames().filter((name) => name !== 'node2')) {
    assert.deepEqual(await askEndpoint('client', node, '/ports/8620'), { status: 503, body: 'unavailable' });
    const { body } = await askEndpoint('node2', node, '/ports/8620');
    assert.equal((body as { local: number }).local, 0);
    await isRefused(node, 8620);
  }
  assert.deepEqual(await askEndpoint('client', 'node1', '/ports/8621/tcp'), { status: 404, body: 'unknown' });
  for (const node of nodeNames()) {
    assert.deepEqual(await askEndpoint('client', node, '/healthz'), { status: 200, body: 'ok' });
    assert.deepEqual(await askEndpoint(node, node, '/healthz'), { status: 200, body: { status: 'ok' } });
  }
});

test('remove the services of these scenarios', async () => {
  const names = (await listRows('service', 'ls')).map(({ name }) => String(name));
  await stdoutOf(meshctl('service', 'rm', ...names.filter((name) => [...kinds, ...OTHER_SERVICES].includes(name))));
});
