// `meshctl trace` predicts what packets then do.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, listRows, meshctl, nodeNames, stdoutOf, waitFor } from './harness.ts';
import { applyWeb, clientProbe, runningTasks } from './shared.ts';

const CLIENT = '172.30.0.100';

async function runTrace(client: string, target: string): Promise<Record<string, unknown>> {
  const { stdout, stderr } = await meshctl('trace', client, target, '--format', 'json');
  const [found] = JSON.parse(stdout || '[]');
  assert.ok(found, stderr);
  return found;
}

test('trace: every task responds through every node, as a client observes', async () => {
  await applyWeb({ replicas: 2 });
  const outside = await clientProbe();
  const tasks = (await runningTasks('web')).map(({ id }) => String(id)).sort();
  for (const node of nodeNames()) {
    for (const [client, target] of [
      [CLIENT, `${node}:8080`],
      ['localhost', `${node}:8080`],
      ['node2', `${addressOf(node)}:5353/udp`],
    ] as const) {
      const found = await runTrace(client, target);
      assert.equal(found['outcome'], 'answered', `${client} to ${target}: ${found['reason']}`);
      const paths = found['paths'] as { hops: { netns: string }[] }[];
      const reached = paths.map(({ hops }) => hops.find(({ netns }) => netns.startsWith('mesh-task-'))?.netns);
      assert.deepEqual(
        reached.sort(),
        tasks.map((id) => `mesh-task-${id}`),
      );
    }
    await outside.http(`http://${addressOf(node)}:8080/`);
  }
});

test('trace: an unpublished port and a service without tasks are refused, as a client observes', async () => {
  const outside = await clientProbe();
  const refusedIs = async (port: number, reason: RegExp) => {
    const found = await runTrace(CLIENT, `node1:${port}`);
    assert.equal(found['outcome'], 'refused');
    assert.match(String(found['reason']), reason);
    await assert.rejects(outside.http(`http://${addressOf('node1')}:${port}/`, { timeout: 5_000 }), /ECONNREFUSED/);
  };
  await refusedIs(8099, /does not take 8099\/tcp/);
  await stdoutOf(meshctl('service', 'scale', 'web=0'));
  await waitFor('no task of web', 60_000, async () =>
    (await listRows('service', 'ps', 'web')).every(({ state }) => state !== 'running'),
  );
  await waitFor('ports without real servers', 10_000, async () => {
    await refusedIs(8080, /no real server takes new connections/);
    return true;
  });
});
