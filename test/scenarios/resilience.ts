// What breaks on purpose: tasks, agents, the manager, nodes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, meshctlOn, must, nodeNames, on, parseAnswer, rows, run, until } from './mesh.ts';
import { applyWeb, clientProbe, countOf, runningTasks } from './shared.ts';

const urls = () => nodeNames().map((node) => `http://${addressOf(node)}:8080/`);

/** Kills the meshd of a node the hard way and starts it again. */
async function crash(node: string): Promise<void> {
  await must(run('node-stop', [node, 'KILL']));
  await must(run('node-start', [node]));
}

async function revisionOf(node: string): Promise<number> {
  const [status] = JSON.parse(await must(meshctlOn(node, ['status', '--format', 'json'])));
  return Number(status.assignmentrevision);
}

test('a killed task leaves the balancer of every node and is replaced', async () => {
  await applyWeb({ replicas: 2 });
  const [victim] = await runningTasks('web');
  const outside = await clientProbe();
  await must(on(String(victim!['node']), 'kill', '-9', String(victim!['pid'])));
  const left = await until('two tasks run again', 60_000, async () => {
    const now = await runningTasks('web');
    return now.length === 2 && now.every((task) => task['id'] !== victim!['id']) && now;
  });
  assert.equal(left.length, 2);
  // The task that died is in no balancer: no call meets it, on any node.
  for (const url of [...urls(), ...urls()]) {
    const answer = parseAnswer(await outside.http(url));
    assert.notEqual(answer.id, victim!['id']);
  }
  const history = await rows('service', 'ps', 'web');
  const ended = history.find((task) => task['id'] === victim!['id']);
  assert.match(JSON.stringify(ended), /SIGKILL/);
});

test('kill -9 and restart of every agent under load: no connection breaks, no kernel operation', async () => {
  const outside = await clientProbe();
  for (const node of nodeNames()) await outside.hold(`held-${node}`, addressOf(node), 8080);
  const tasks = (await runningTasks('web')).map((task) => task['id']).sort();
  // Steady rather than heavy: under emulation a crowd would keep the agents from ever starting again.
  await outside.startLoad('during', urls(), { parallel: 3, pause: 300 });
  for (const node of nodeNames()) {
    await crash(node);
    await until(`${node} is connected again`, 60_000, async () => (await revisionOf(node)) > 0);
  }
  await until('all nodes ready', 60_000, async () =>
    (await rows('node', 'ls')).every((node) => node['status'] === 'ready'),
  );
  const figures = await outside.stopLoad('during');
  assert.deepEqual(figures.errors, {});
  for (const node of nodeNames()) {
    assert.match(await outside.ask(`held-${node}`), /sees 172\.30\.0\.100/);
    await outside.release(`held-${node}`);
    const counters = await countOf(node);
    assert.equal(counters.operations, 0, `${node} changed its kernel although nothing had changed`);
  }
  assert.deepEqual((await runningTasks('web')).map((task) => task['id']).sort(), tasks);
});

test('without its manager the mesh keeps answering and changes nothing', async () => {
  const outside = await clientProbe();
  const earlier = await countOf('node2');
  await must(run('node-stop', ['node1', 'KILL']));
  try {
    for (const url of [...urls(), ...urls()]) parseAnswer(await outside.http(url));
    assert.equal((await countOf('node2')).operations, earlier.operations);
  } finally {
    await must(run('node-start', ['node1']));
  }
  await until('the manager is back', 60_000, async () => (await rows('node', 'ls')).length === nodeNames().length);
});

test('an agent that starts while its manager is away repairs its kernel from its own disk', async () => {
  await must(run('node-stop', ['node1', 'KILL']));
  await must(run('node-stop', ['node3', 'KILL']));
  await must(on('node3', 'ip', 'netns', 'exec', 'mesh-lb', 'ipvsadm', '-C'));
  const outside = await clientProbe();
  try {
    await must(run('node-start', ['node3']));
    await until('node3 answers again', 60_000, async () => {
      return outside
        .http(`http://${addressOf('node3')}:8080/`, { timeout: 2_000 })
        .then(parseAnswer, () => false as const);
    });
  } finally {
    await must(run('node-start', ['node1']));
  }
  await until('the manager is back', 60_000, async () => (await rows('node', 'ls')).length === nodeNames().length);
});

test('a second meshd on the same state directory refuses to start', async () => {
  const second = await on(
    'node2',
    'meshd',
    '--role',
    'agent',
    '--name',
    'node2',
    '--advertise',
    addressOf('node2'),
    '--join',
    `${addressOf('node1')}:2377`,
    '--state-dir',
    '/var/lib/meshd',
    '--socket',
    '/run/meshd/second.sock',
    '--insecure-dev',
  );
  assert.equal(second.status, 1, second.stderr);
  assert.match(second.stderr, /state|lock|already/i);
  assert.doesNotMatch(second.stderr, /\n\s+at /);
});

test('a node that is cut off loses its tasks to others and takes none back twice', async () => {
  await applyWeb({ replicas: 2 });
  const victim = String((await runningTasks('web'))[0]!['node']);
  const other = victim === 'node2' ? 'node3' : 'node2';
  await must(run('node-cut', [victim]));
  const outside = await clientProbe();
  try {
    await until(`both tasks run on ${other}`, 90_000, async () => {
      const tasks = await runningTasks('web');
      return tasks.length === 2 && tasks.every((task) => task['node'] === other);
    });
    for (let call = 0; call < 4; call += 1) {
      assert.equal(parseAnswer(await outside.http(`http://${addressOf('node1')}:8080/`)).node, other);
    }
  } finally {
    await must(run('node-join', [victim]));
  }
  await until(`${victim} is back`, 60_000, async () =>
    (await rows('node', 'ls')).every((node) => node['status'] === 'ready'),
  );
  assert.equal((await runningTasks('web')).length, 2);
  parseAnswer(await outside.http(`http://${addressOf(victim)}:8080/`));
});
