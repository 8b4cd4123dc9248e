// Rolling updates, drain and port changes under load without failed requests.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  addressOf,
  applyManifest,
  listRows,
  meshctl,
  nodeNames,
  type ProbeClient,
  parseWhoami,
  run,
  runOn,
  sleep,
  stdoutOf,
  waitFor,
} from './harness.ts';
import { clientProbe, runningTasks, WHOAMI } from './shared.ts';

const urls = () => nodeNames().map((node) => `http://${addressOf(node)}:8300/`);
let outsideClient: ProbeClient;

interface Options {
  ports?: unknown[];
  replicas?: number;
  order?: 'start-first' | 'stop-first';
  grace?: string;
  constraint?: string;
}

async function apply(name: string, options: Options, ...more: string[]): Promise<void> {
  const { ports = ['8300:80'], replicas = 3, order = 'start-first', grace = '20s', constraint } = options;
  const service = {
    command: [WHOAMI],
    environment: { PORT: '80' },
    ports,
    stop_grace_period: grace,
    deploy: {
      replicas,
      update_config: { parallelism: 1, order },
      placement: { constraints: [constraint ?? 'node.hostname != node1'] },
    },
    'x-mesh': { runtime: 'process' },
  };
  await stdoutOf(applyManifest(JSON.stringify({ services: { [name]: service } }), ...more));
}

/**
 * While `work` runs, `parallel` clients with persistent connections and as many with one connection per request see no
 * failure. Each sends one request per `pause` ms: emulated processors must respond within a second, after which a client
 * repeats its SYN (drained servers in docs/data-path.md), and well within the grace period.
 */
async function assertNoFailures(
  name: string,
  { parallel, pause }: { parallel: number; pause: number },
  work: () => Promise<unknown>,
): Promise<void> {
  const load = { parallel, pause, timeout: 60_000 };
  await outsideClient.startLoad(`${name} kept`, urls(), { ...load, keepAlive: true });
  await outsideClient.startLoad(`${name} short`, urls(), load);
  try {
    await sleep(pause); // all connections are established now
    await work();
  } finally {
    const stats = await Promise.all([outsideClient.stopLoad(`${name} kept`), outsideClient.stopLoad(`${name} short`)]);
    const [kept, short] = stats.map(
      ({ answered, failed, slowest }) => `${answered} answered, ${failed} failed, slowest ${Math.round(slowest)} ms`,
    );
    console.log(`# ${name}: kept: ${kept}, ${stats[0].reconnected} reconnected; short: ${short}`);
    for (const { errors } of stats) assert.deepEqual(errors, {});
    for (const { answered } of stats) assert.ok(answered >= parallel, 'too few responses to be meaningful');
  }
}

const idsOf = async (service: string) => (await runningTasks(service)).map(({ id }) => String(id)).sort();
const pidsOf = async (service: string) => (await runningTasks(service)).map(({ pid }) => Number(pid)).sort();
const published = (node: string) => stdoutOf(runOn(node, 'ipset', 'list', 'mesh-pub-tcp'));
const refused = (node: string, port: number) =>
  assert.rejects(outsideClient.http(`http://${addressOf(node)}:${port}/`, { timeout: 5_000 }), /ECONNREFUSED/);

describe('rolling updates and port changes', () => {
  before(async () => {
    outsideClient = await clientProbe();
    await apply('roll', {});
  });
  after(async () => {
    await stdoutOf(meshctl('node', 'update', '--availability', 'active', 'node2'));
    await stdoutOf(meshctl('service', 'rm', 'roll'));
  });

  for (const order of ['start-first', 'stop-first'] as const) {
    test(`service update --force, ${order}: every task is replaced under 400 clients, no request fails`, async () => {
      await apply('roll', { order });
      const old = await idsOf('roll');
      await assertNoFailures(order, { parallel: 200, pause: 30_000 }, () =>
        stdoutOf(meshctl('service', 'update', '--force', 'roll')),
      );
      const now = await idsOf('roll');
      assert.equal(now.length, 3);
      assert.deepEqual(
        now.filter((id) => old.includes(id)),
        [],
      );
    });
  }

  test('node drain: its tasks are replaced elsewhere before they stop, no request fails', async () => {
    await assertNoFailures('node drain', { parallel: 50, pause: 5_000 }, async () => {
      await stdoutOf(meshctl('node', 'update', '--availability', 'drain', 'node2'));
      await waitFor('node2 without tasks', 120_000, async () => {
        const tasks = await listRows('service', 'ps', 'roll');
        return tasks.every(({ node, state }) => node !== 'node2' || state === 'shutdown');
      });
    });
    assert.deepEqual(
      (await runningTasks('roll')).map(({ node }) => node),
      ['node3', 'node3', 'node3'],
    );
    await stdoutOf(meshctl('node', 'update', '--availability', 'active', 'node2'));
  });

  test('ports are added and removed without restarting tasks; an automatic port keeps its number', async () => {
    const pids = await pidsOf('roll');
    await apply('roll', { ports: ['8300:80', '8301:80', '80'] });
    const automatic = async () =>
      (await listRows('port', 'ls'))
        .filter(({ name }) => name === 'roll')
        .map(({ published: port }) => Number(port))
        .filter((port) => port >= 30_000);
    const [chosen] = await automatic();
    parseWhoami(await outsideClient.http(`http://${addressOf('node1')}:${chosen}/`));
    for (const url of urls()) parseWhoami(await outsideClient.http(url.replace('8300', '8301')));
    await apply('roll', { ports: ['8302:80', '8300:80', '8301:80', '80'], grace: '60s' });
    assert.deepEqual(await automatic(), [chosen]);
    assert.deepEqual(await pidsOf('roll'), pids);
  });

  test('a removed port: open connections continue until they end, new ones are refused', async () => {
    const pids = await pidsOf('roll');
    await outsideClient.hold('leaving', addressOf('node1'), 8301);
    await outsideClient.request('leaving');
    await apply('roll', { ports: ['8300:80'], grace: '60s' });
    await waitFor('8301 to be refused', 10_000, async () => refused('node1', 8301).then(() => true));
    // The draining port survives a crash of the manager.
    await stdoutOf(run('node-stop', ['node1', 'KILL']));
    await stdoutOf(run('node-start', ['node1']));
    await waitFor('all nodes ready', 60_000, async () =>
      (await listRows('node', 'ls')).every((node) => node['status'] === 'ready'),
    );
    assert.match(await outsideClient.request('leaving'), /sees 172\.30\.0\.100/);
    assert.match(await published('node1'), /^8301$/m);
    await outsideClient.release('leaving');
    for (const node of nodeNames()) {
      await waitFor(`8301 to be removed from ${node}`, 30_000, async () => !/^8301$/m.test(await published(node)));
    }
    for (const url of urls()) parseWhoami(await outsideClient.http(url));
    assert.deepEqual(await pidsOf('roll'), pids);
  });

  test('a removed service: open connections continue until they end, at most for the grace period', async () => {
    await apply('gone', { ports: ['8310:80'], replicas: 1, grace: '10s' });
    await outsideClient.hold('ends', addressOf('node3'), 8310);
    await outsideClient.hold('stays', addressOf('node1'), 8310);
    await stdoutOf(meshctl('service', 'rm', 'gone'));
    assert.match(await outsideClient.request('ends'), /sees/);
    await outsideClient.release('ends');
    assert.match(await outsideClient.request('stays'), /sees/);
    await waitFor('8310 to be refused', 10_000, () => refused('node2', 8310).then(() => true));
    // whoami closes idle connections on SIGTERM.
    await waitFor('the end of the grace period', 60_000, async () =>
      outsideClient.request('stays').then(
        () => false,
        () => true,
      ),
    );
    await outsideClient.release('stays');
    for (const node of nodeNames()) {
      await waitFor(`8310 to be removed from ${node}`, 30_000, async () => !/^8310$/m.test(await published(node)));
    }
  });

  test('a port moved to another service is switched at once, and old connections continue', async () => {
    await apply('first', { ports: ['8320:80'], replicas: 1, grace: '60s' });
    await outsideClient.hold('old', addressOf('node1'), 8320);
    await outsideClient.request('old');
    await apply('first', { ports: [], replicas: 1, grace: '60s' });
    await apply('second', { ports: ['8320:80'], replicas: 1 });
    assert.match(parseWhoami(await outsideClient.http(`http://${addressOf('node1')}:8320/`)).task, /^second\./);
    assert.match(await outsideClient.request('old'), /first\./);
    await outsideClient.release('old');
    await stdoutOf(meshctl('service', 'rm', 'first', 'second'));
  });

  test('host mode: one task per node, across services; a pending task reports why, and starts once a node is free', async () => {
    const ports = [{ target: 80, published: 8330, mode: 'host' }];
    await apply('pinned', { ports, replicas: 2 });
    await apply('second', { ports, replicas: 1 }, '--detach');
    await waitFor('the third task to be pending', 30_000, async () =>
      (await listRows('service', 'ps', 'second')).some(({ message }) =>
        /2 with host port 8330\/tcp in use/.test(String(message)),
      ),
    );
    for (const node of ['node2', 'node3']) {
      const answer = parseWhoami(await outsideClient.http(`http://${addressOf(node)}:8330/`));
      assert.deepEqual([answer.node, answer.task.split('.')[0]], [node, 'pinned']);
    }
    await stdoutOf(meshctl('service', 'rm', 'pinned'));
    await waitFor('the pending task to run', 60_000, async () => (await runningTasks('second')).length === 1);
    await stdoutOf(meshctl('service', 'rm', 'second'));
  });
});
