// `service update`: ports of a running service are added and removed without restarting its tasks; --force replaces all tasks.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, applyManifest, listRows, meshctl, nodeNames, parseWhoami, stdoutOf, waitFor } from './harness.ts';
import { applyWeb, clientProbe, runningTasks, urlOf, whoamiManifest } from './shared.ts';

const update = (...options: string[]) => meshctl('service', 'update', ...options);
/** Task and its id from an HTTP response. */
const taskOf = (answer: string) => /^(\S+ \S+) on /m.exec(answer)?.[1] ?? assert.fail(answer);
const identities = async () => (await runningTasks('web')).map(({ id, pid }) => `${id} ${pid}`).sort();
const published = async () =>
  (await listRows('port', 'ls'))
    .filter(({ name }) => name === 'web')
    .map((port) => `${port['published']}/${port['protocol']}`);

test('--publish-add: the port works on every node, no task is restarted', async () => {
  await applyWeb({ replicas: 2, ports: ['8080:80'] });
  const before = await identities();
  const output = await stdoutOf(
    update('web', '--publish-add', '8085:80', '--publish-add', 'published=5355,target=53,protocol=udp'),
  );
  assert.match(output, /updated: port 8085:80\/tcp added, port 5355:53\/udp added\n/);
  const client = await clientProbe();
  for (const node of nodeNames()) {
    await waitFor(`8085 on ${node}`, 5_000, async () => parseWhoami(await client.http(urlOf(addressOf(node), 8085))));
    await waitFor(`5355/udp on ${node}`, 5_000, async () => parseWhoami(await client.udp(addressOf(node), 5355, 500)));
  }
  assert.deepEqual(await identities(), before);
  assert.deepEqual(await published(), ['5355/udp', '8080/tcp', '8085/tcp']);
});

test('--publish-rm takes the target port; connections of the other ports survive', async () => {
  const before = await identities();
  const client = await clientProbe();
  await client.hold('kept', addressOf('node1'), 8080);
  const first = await client.request('kept');
  assert.equal((await update('web', '--publish-rm', '8085')).status, 1);
  await stdoutOf(update('web', '--publish-rm', '80', '--publish-rm', '53/udp', '--publish-add', '8080:80'));
  for (const node of nodeNames()) {
    await waitFor(`8085 on ${node} refused`, 5_000, async () =>
      client.http(urlOf(addressOf(node), 8085), { timeout: 2_000 }).then(
        () => false,
        (error: Error) => /ECONNREFUSED/.test(error.message),
      ),
    );
    parseWhoami(await client.http(urlOf(addressOf(node), 8080)));
  }
  assert.equal(taskOf(await client.request('kept')), taskOf(first));
  await client.release('kept');
  assert.deepEqual(await identities(), before);
  assert.deepEqual(await published(), ['8080/tcp']);
});

test('if two services request one port concurrently, one gets it', async () => {
  const other = await applyManifest(whoamiManifest({ name: 'rival', replicas: 1, ports: [] }));
  assert.equal(other.status, 0, other.stderr);
  const outcomes = await Promise.all(
    ['web', 'rival'].map((name) => update(name, '--detach', '--publish-add', '8086:80')),
  );
  assert.deepEqual(outcomes.map(({ status }) => status).sort(), [0, 1]);
  assert.match(outcomes.map(({ stderr }) => stderr).join(''), /port '8086\/tcp' is already in use by service/);
  const owners = (await listRows('port', 'ls')).filter((port) => port['published'] === 8086);
  assert.equal(owners.length, 1);
  await stdoutOf(meshctl('service', 'rm', 'rival'));
});

test('--force: every task is replaced, and the command waits for it', async () => {
  await applyWeb({ replicas: 2, ports: ['8080:80'] });
  const before = await identities();
  const output = await stdoutOf(update('--force', 'web'));
  assert.match(output, /updated: all tasks are replaced\n[\s\S]*service web converged\n$/);
  const after = await identities();
  assert.equal(after.length, 2);
  assert.deepEqual(
    after.filter((task) => before.includes(task)),
    [],
  );
  // A manifest does not contain --force: applying it does not repeat the replacement.
  await applyWeb({ replicas: 2, ports: ['8080:80'] });
  assert.deepEqual(await identities(), after);
});
