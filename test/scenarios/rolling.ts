// Tasks and ports come and go under load, and nobody notices.
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { after, before, describe, test } from 'node:test';
import {
  addressOf,
  applyText,
  meshctl,
  must,
  nodeNames,
  on,
  type Probe,
  parseAnswer,
  rows,
  run,
  sleep,
  until,
} from './mesh.ts';
import { clientProbe, runningTasks } from './shared.ts';

const whoami = resolve('examples/whoami.mjs');
const urls = () => nodeNames().map((node) => `http://${addressOf(node)}:8300/`);
let outside: Probe;

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
    command: ['node', whoami],
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
  await must(applyText(JSON.stringify({ services: { [name]: service } }), ...more));
}

/**
 * So many clients that keep their connections, and as many that open one for each call, while `work` is done: none sees
 * a failure. Each asks once in `pause` ms: emulated processors have to answer well within the grace period.
 */
async function unnoticed(
  name: string,
  { parallel, pause }: { parallel: number; pause: number },
  work: () => Promise<unknown>,
): Promise<void> {
  const load = { parallel, pause, timeout: 60_000 };
  await outside.startLoad(`${name} kept`, urls(), { ...load, keepAlive: true });
  await outside.startLoad(`${name} short`, urls(), load);
  try {
    await sleep(pause); // now all have their connections
    await work();
  } finally {
    const figures = await Promise.all([outside.stopLoad(`${name} kept`), outside.stopLoad(`${name} short`)]);
    const [kept, short] = figures.map(
      ({ answered, failed, slowest }) => `${answered} answered, ${failed} failed, slowest ${Math.round(slowest)} ms`,
    );
    console.log(`# ${name}: kept: ${kept}, ${figures[0].reconnected} reconnected; short: ${short}`);
    for (const { errors } of figures) assert.deepEqual(errors, {});
    for (const { answered } of figures) assert.ok(answered >= parallel, 'too few answers to tell');
  }
}

const idsOf = async (service: string) => (await runningTasks(service)).map(({ id }) => String(id)).sort();
const pidsOf = async (service: string) => (await runningTasks(service)).map(({ pid }) => Number(pid)).sort();
const published = (node: string) => must(on(node, 'ipset', 'list', 'mesh-pub-tcp'));
const refused = (node: string, port: number) =>
  assert.rejects(outside.http(`http://${addressOf(node)}:${port}/`, { timeout: 5_000 }), /ECONNREFUSED/);

describe('tasks and ports come and go', () => {
  before(async () => {
    outside = await clientProbe();
    await apply('roll', {});
  });
  after(async () => {
    await must(meshctl('node', 'update', '--availability', 'active', 'node2'));
    await must(meshctl('service', 'rm', 'roll'));
  });

  for (const order of ['start-first', 'stop-first'] as const) {
    test(`service update --force, ${order}: every task is replaced under 400 clients, no call fails`, async () => {
      await apply('roll', { order });
      const old = await idsOf('roll');
      await unnoticed(order, { parallel: 200, pause: 20_000 }, () =>
        must(meshctl('service', 'update', '--force', 'roll')),
      );
      const now = await idsOf('roll');
      assert.equal(now.length, 3);
      assert.deepEqual(
        now.filter((id) => old.includes(id)),
        [],
      );
    });
  }

  test('node drain: its tasks run elsewhere before they leave, no call fails', async () => {
    await unnoticed('node drain', { parallel: 50, pause: 5_000 }, async () => {
      await must(meshctl('node', 'update', '--availability', 'drain', 'node2'));
      await until('node2 is empty', 120_000, async () => {
        const tasks = await rows('service', 'ps', 'roll');
        return tasks.every(({ node, state }) => node !== 'node2' || state === 'shutdown');
      });
    });
    assert.deepEqual(
      (await runningTasks('roll')).map(({ node }) => node),
      ['node3', 'node3', 'node3'],
    );
    await must(meshctl('node', 'update', '--availability', 'active', 'node2'));
  });

  test('ports come and go without a task noticing; an automatic one stays what it is', async () => {
    const pids = await pidsOf('roll');
    await apply('roll', { ports: ['8300:80', '8301:80', '80'] });
    const automatic = async () =>
      (await rows('port', 'ls'))
        .filter(({ name }) => name === 'roll')
        .map(({ published: port }) => Number(port))
        .filter((port) => port >= 30_000);
    const [chosen] = await automatic();
    parseAnswer(await outside.http(`http://${addressOf('node1')}:${chosen}/`));
    for (const url of urls()) parseAnswer(await outside.http(url.replace('8300', '8301')));
    await apply('roll', { ports: ['8302:80', '8300:80', '8301:80', '80'], grace: '60s' });
    assert.deepEqual(await automatic(), [chosen]);
    assert.deepEqual(await pidsOf('roll'), pids);
  });

  test('a removed port: who is connected stays so and may end in peace, nobody new comes in', async () => {
    const pids = await pidsOf('roll');
    await outside.hold('leaving', addressOf('node1'), 8301);
    await outside.ask('leaving');
    await apply('roll', { ports: ['8300:80'], grace: '60s' });
    await until('8301 takes nobody any more', 10_000, async () => refused('node1', 8301).then(() => true));
    // A manager that dies does not forget it.
    await must(run('node-stop', ['node1', 'KILL']));
    await must(run('node-start', ['node1']));
    await until('all nodes are ready', 60_000, async () =>
      (await rows('node', 'ls')).every((node) => node['status'] === 'ready'),
    );
    assert.match(await outside.ask('leaving'), /sees 172\.30\.0\.100/);
    assert.match(await published('node1'), /^8301$/m);
    await outside.release('leaving');
    for (const node of nodeNames()) {
      await until(`8301 has left ${node}`, 30_000, async () => !/^8301$/m.test(await published(node)));
    }
    for (const url of urls()) parseAnswer(await outside.http(url));
    assert.deepEqual(await pidsOf('roll'), pids);
  });

  test('a removed service: held connections live to their end, or to the end of the grace period', async () => {
    await apply('gone', { ports: ['8310:80'], replicas: 1, grace: '10s' });
    await outside.hold('ends', addressOf('node3'), 8310);
    await outside.hold('stays', addressOf('node1'), 8310);
    await must(meshctl('service', 'rm', 'gone'));
    assert.match(await outside.ask('ends'), /sees/);
    await outside.release('ends');
    assert.match(await outside.ask('stays'), /sees/);
    await refused('node2', 8310);
    // whoami closes what is idle when it is told to go.
    await until('the grace period is over', 60_000, async () =>
      outside.ask('stays').then(
        () => false,
        () => true,
      ),
    );
    await outside.release('stays');
    for (const node of nodeNames()) {
      await until(`8310 has left ${node}`, 30_000, async () => !/^8310$/m.test(await published(node)));
    }
  });

  test('a port that changes hands is the newcomer’s at once, and old connections live on', async () => {
    await apply('first', { ports: ['8320:80'], replicas: 1, grace: '60s' });
    await outside.hold('old', addressOf('node1'), 8320);
    await outside.ask('old');
    await apply('first', { ports: [], replicas: 1, grace: '60s' });
    await apply('second', { ports: ['8320:80'], replicas: 1 });
    assert.match(parseAnswer(await outside.http(`http://${addressOf('node1')}:8320/`)).task, /^second\./);
    assert.match(await outside.ask('old'), /first\./);
    await outside.release('old');
    await must(meshctl('service', 'rm', 'first', 'second'));
  });

  test('host mode: one task a node, across services; who has no place says why, and has its turn', async () => {
    const ports = [{ target: 80, published: 8330, mode: 'host' }];
    await apply('pinned', { ports, replicas: 2 });
    await apply('second', { ports, replicas: 1 }, '--detach');
    await until('the third task waits', 30_000, async () =>
      (await rows('service', 'ps', 'second')).some(({ message }) =>
        /2 whose host port 8330\/tcp another task has/.test(String(message)),
      ),
    );
    for (const node of ['node2', 'node3']) {
      const answer = parseAnswer(await outside.http(`http://${addressOf(node)}:8330/`));
      assert.deepEqual([answer.node, answer.task.split('.')[0]], [node, 'pinned']);
    }
    await must(meshctl('service', 'rm', 'pinned'));
    await until('the one that waited runs', 60_000, async () => (await runningTasks('second')).length === 1);
    await must(meshctl('service', 'rm', 'second'));
  });
});
