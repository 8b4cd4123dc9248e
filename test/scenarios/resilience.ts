// Failures of tasks, agents, the manager and nodes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, listRows, meshctlOn, nodeNames, parseWhoami, run, runOn, stdoutOf, waitFor } from './harness.ts';
import { applyWeb, clientProbe, LIGHT_LOAD, readCounters, runningTasks } from './shared.ts';

const urls = () => nodeNames().map((node) => `http://${addressOf(node)}:8080/`);

/** Kills the meshd of a node with SIGKILL and restarts it. */
async function killAgent(node: string): Promise<void> {
  await stdoutOf(run('node-stop', [node, 'KILL']));
  await stdoutOf(run('node-start', [node]));
}

async function revisionOf(node: string): Promise<number> {
  const [status] = JSON.parse(await stdoutOf(meshctlOn(node, ['status', '--format', 'json'])));
  return Number(status.assignment_revision);
}

test('a killed task is removed from the balancer of every node and replaced', async () => {
  await applyWeb({ replicas: 2 });
  const [victim] = await runningTasks('web');
  const outside = await clientProbe();
  await stdoutOf(runOn(String(victim!['node']), 'kill', '-9', String(victim!['pid'])));
  const left = await waitFor('two running tasks', 60_000, async () => {
    const now = await runningTasks('web');
    return now.length === 2 && now.every((task) => task['id'] !== victim!['id']) && now;
  });
  assert.equal(left.length, 2);
  // The dead task is in no balancer: no request reaches it, on any node.
  for (const url of [...urls(), ...urls()]) {
    const answer = parseWhoami(await outside.http(url));
    assert.notEqual(answer.id, victim!['id']);
  }
  const history = await listRows('service', 'ps', 'web');
  const ended = history.find((task) => task['id'] === victim!['id']);
  assert.match(JSON.stringify(ended), /SIGKILL/);
});

test('kill -9 and restart of every agent under load: no connection breaks, no kernel operation', async () => {
  const outside = await clientProbe();
  for (const node of nodeNames()) await outside.hold(`held-${node}`, addressOf(node), 8080);
  const tasks = (await runningTasks('web')).map((task) => task['id']).sort();
  await outside.startLoad('during', urls(), LIGHT_LOAD);
  for (const node of nodeNames()) {
    await killAgent(node);
    await waitFor(`${node} to reconnect`, 60_000, async () => (await revisionOf(node)) > 0);
  }
  await waitFor('all nodes ready', 60_000, async () =>
    (await listRows('node', 'ls')).every((node) => node['status'] === 'ready'),
  );
  const figures = await outside.stopLoad('during');
  assert.deepEqual(figures.errors, {});
  for (const node of nodeNames()) {
    assert.match(await outside.request(`held-${node}`), /sees 172\.30\.0\.100/);
    await outside.release(`held-${node}`);
    const counters = await readCounters(node);
    assert.equal(counters.operations, 0, `${node} executed kernel operations without a change`);
  }
  assert.deepEqual((await runningTasks('web')).map((task) => task['id']).sort(), tasks);
});

test('without its manager the mesh keeps working and changes nothing', async () => {
  const outside = await clientProbe();
  const earlier = await readCounters('node2');
  await stdoutOf(run('node-stop', ['node1', 'KILL']));
  try {
    for (const url of [...urls(), ...urls()]) parseWhoami(await outside.http(url));
    assert.equal((await readCounters('node2')).operations, earlier.operations);
  } finally {
    await stdoutOf(run('node-start', ['node1']));
  }
  await waitFor(
    'the manager to respond',
    60_000,
    async () => (await listRows('node', 'ls')).length === nodeNames().length,
  );
});

test('an agent that starts without a manager repairs its kernel from the assignment on disk', async () => {
  await stdoutOf(run('node-stop', ['node1', 'KILL']));
  await stdoutOf(run('node-stop', ['node3', 'KILL']));
  await stdoutOf(runOn('node3', 'ip', 'netns', 'exec', 'mesh-lb', 'ipvsadm', '-C'));
  const outside = await clientProbe();
  try {
    await stdoutOf(run('node-start', ['node3']));
    await waitFor('node3 to respond', 60_000, async () => {
      return outside
        .http(`http://${addressOf('node3')}:8080/`, { timeout: 2_000 })
        .then(parseWhoami, () => false as const);
    });
  } finally {
    await stdoutOf(run('node-start', ['node1']));
  }
  await waitFor(
    'the manager to respond',
    60_000,
    async () => (await listRows('node', 'ls')).length === nodeNames().length,
  );
});

test('a second meshd on the same state directory fails to start', async () => {
  const second = await runOn(
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

test('tasks of a disconnected node are replaced on other nodes, and none runs twice after it reconnects', async () => {
  await applyWeb({ replicas: 2 });
  const victim = String((await runningTasks('web'))[0]!['node']);
  const other = victim === 'node2' ? 'node3' : 'node2';
  await stdoutOf(run('node-cut', [victim]));
  const outside = await clientProbe();
  try {
    await waitFor(`both tasks run on ${other}`, 90_000, async () => {
      const tasks = await runningTasks('web');
      return tasks.length === 2 && tasks.every((task) => task['node'] === other);
    });
    for (let call = 0; call < 4; call += 1) {
      assert.equal(parseWhoami(await outside.http(`http://${addressOf('node1')}:8080/`)).node, other);
    }
  } finally {
    await stdoutOf(run('node-join', [victim]));
  }
  await waitFor(`${victim} to reconnect`, 60_000, async () =>
    (await listRows('node', 'ls')).every((node) => node['status'] === 'ready'),
  );
  assert.equal((await runningTasks('web')).length, 2);
  // The node is ready when it is connected; it still has to end its old task and to learn of the new ones.
  await waitFor(`answers through ${victim}`, 30_000, async () =>
    outside.http(`http://${addressOf(victim)}:8080/`).then(
      (answer) => parseWhoami(answer).node === other,
      () => false,
    ),
  );
});
