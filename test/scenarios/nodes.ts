// Nodes whose own network changes: a lost address, an address on lo, a LAN inside the overlay; and what meshctl says.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { nodeInfo } from '../torture/queries.ts';
import {
  addressOf,
  applyManifest,
  listRows,
  meshctl,
  meshctlOn,
  nodeNames,
  parseWhoami,
  run,
  runOn,
  stdoutOf,
  waitFor,
} from './harness.ts';
import { applyWeb, clientProbe, runningTasks, WHOAMI } from './shared.ts';

const CLIENT = '172.30.0.100';
const url = (node: string, port = 8080) => `http://${addressOf(node)}:${port}/`;

interface NodeRow {
  name: string;
  number: number;
  status: string;
  address: string;
  conditions: string[];
}

async function nodeRow(name: string): Promise<NodeRow> {
  const rows = (await listRows('node', 'ls')) as unknown as NodeRow[];
  const found = rows.find((row) => row.name === name);
  assert.ok(found, `${name} is not in node ls`);
  return found;
}

const hasCondition = async (node: string, code: string) =>
  (await nodeRow(node)).conditions.some((text) => text.startsWith(`${code}: `));

/** `ip ARGUMENTS` on a host, undone after the test by another `ip` command. */
async function ip(t: TestContext, host: string, line: string, undo: string): Promise<void> {
  t.after(() => runOn(host, 'ip', ...undo.split(' ')));
  await stdoutOf(runOn(host, 'ip', ...line.split(' ')));
}

test('after `converged` every port answers on every node', async (t) => {
  t.after(() => meshctl('service', 'rm', 'many'));
  const ports = Array.from({ length: 300 }, (_, index) => `${20_000 + index}:80`);
  const manifest = {
    services: {
      many: {
        command: [WHOAMI],
        environment: { PORT: '80' },
        ports,
        deploy: { replicas: 1 },
        'x-mesh': { runtime: 'process' },
      },
    },
  };
  const outcome = await applyManifest(JSON.stringify(manifest));
  assert.equal(outcome.status, 0, outcome.stderr);
  assert.match(outcome.stdout, /service many converged/);
  const outside = await clientProbe();
  for (let index = 299; index >= 0; index -= 23) {
    for (const node of nodeNames()) parseWhoami(await outside.http(url(node, 20_000 + index)));
  }
});

test('/run/meshd is removed while meshd runs: its socket comes back, and meshctl says so', async () => {
  await stdoutOf(runOn('node2', 'rm', '-r', '/run/meshd'));
  const first = await meshctlOn('node2', ['status']);
  if (first.status !== 0) assert.match(first.stderr, /no such socket\. A running meshd creates a removed socket again/);
  await waitFor('the socket', 10_000, async () => (await meshctlOn('node2', ['status'])).status === 0);
});

test('a node without its advertised address gets no new tasks and no connections of other nodes, until it is back', async (t) => {
  await applyWeb({ replicas: 2 });
  const victim = 'node2';
  const tasksOnVictim = async () =>
    (await runningTasks('web')).filter(({ node }) => node === victim).map(({ id }) => String(id));
  assert.deepEqual((await runningTasks('web')).map(({ node }) => node).sort(), ['node2', 'node3']);
  const address = `${addressOf(victim)}/24`;
  // The session with the manager uses another address, which the node keeps.
  await stdoutOf(runOn(victim, 'sysctl', '-qw', 'net.ipv4.conf.eth0.promote_secondaries=1'));
  await ip(t, victim, 'addr add 172.30.0.52/24 dev eth0', 'addr del 172.30.0.52/24 dev eth0');
  const route = `${addressOf('node1')} dev eth0 src 172.30.0.52`;
  await ip(t, victim, `route add ${route}`, `route del ${route}`);
  await stdoutOf(run('node-stop', [victim]));
  await stdoutOf(run('node-start', [victim]));
  await waitFor('the session of the node', 60_000, async () => (await nodeInfo(victim)).assignmentRevision > 0);
  await ip(t, victim, `addr del ${address} dev eth0`, `addr replace ${address} dev eth0`);
  await waitFor('the condition', 60_000, () => hasCondition(victim, 'UnderlayAddressMissing'));
  // An overloaded test host may keep heartbeats back for a while.
  await waitFor('the node to be ready', 30_000, async () => (await nodeRow(victim)).status === 'ready');
  const outside = await clientProbe();
  await waitFor('no connections to the node', 10_000, async () => {
    for (let call = 0; call < 4; call += 1) {
      if (parseWhoami(await outside.http(url('node1'), { timeout: 2_000 })).node === victim) return false;
    }
    return true;
  });
  // The tasks of the node are reached through itself.
  assert.equal(parseWhoami(await outside.http('http://172.30.0.52:8080/')).node, victim);
  const before = await tasksOnVictim();
  await applyWeb({ replicas: 4 });
  assert.deepEqual(
    (await tasksOnVictim()).filter((id) => !before.includes(id)),
    [],
  );
  let findings = '';
  await waitFor('the finding of the doctor', 60_000, async () => {
    findings = (await meshctl('doctor')).stdout;
    return /no interface of this node has 172\.30\.0\.2/.test(findings);
  });
  assert.doesNotMatch(findings, /udp\/4789 is dropped/);
  await stdoutOf(runOn(victim, 'ip', 'addr', 'add', address, 'dev', 'eth0'));
  await waitFor(
    'the end of the condition',
    30_000,
    async () => !(await hasCondition(victim, 'UnderlayAddressMissing')),
  );
  await applyWeb({ replicas: 6 });
  assert.ok((await tasksOnVictim()).length > before.length, 'the node gets new tasks');
  await waitFor('connections to the node', 30_000, async () => {
    const nodes = new Set<string>();
    for (let call = 0; call < 4; call += 1) nodes.add(parseWhoami(await outside.http(url('node1'))).node);
    return nodes.has(victim);
  });
});

test('clients inside the overlay: a condition of the node with such a network, and trace says that they get no answer', async (t) => {
  await applyWeb({ replicas: 2 });
  const { number } = await nodeRow('node2');
  const client = `10.252.${number}.77`;
  await ip(t, 'client', `addr add ${client}/32 dev lo`, `addr del ${client}/32 dev lo`);
  assert.equal(await hasCondition('node1', 'OverlayOverlap'), false);
  await ip(t, 'node1', `route add ${client}/32 via ${CLIENT}`, `route del ${client}/32`);
  await waitFor('the condition', 10_000, () => hasCondition('node1', 'OverlayOverlap'));
  const { stdout } = await meshctl('trace', client, 'node1:8080', '--format', 'json');
  const [traced] = JSON.parse(stdout);
  assert.equal(traced.outcome, 'lost');
  assert.match(
    traced.reason,
    new RegExp(`stays in the overlay: ${client.replaceAll('.', '\\.')} is in the block of a node`),
  );
  const outside = await clientProbe();
  await assert.rejects(outside.http(url('node1'), { localAddress: client, timeout: 3_000 }));
  const doctor = await meshctl('doctor', 'node1');
  assert.match(doctor.stdout, new RegExp(`error +overlap .*${client.replaceAll('.', '\\.')}/32 on eth0`));
  await stdoutOf(runOn('node1', 'ip', 'route', 'del', `${client}/32`));
  await waitFor('the end of the condition', 10_000, async () => !(await hasCondition('node1', 'OverlayOverlap')));
});

test('a node that advertises an address on lo: its tasks answer through every node, with the MTU of the routes', async (t) => {
  const routed = '198.51.100.3';
  const restart = async (...options: string[]) => {
    await stdoutOf(run('node-stop', ['node3']));
    const MESHD_ARGS = [process.env['MESHD_ARGS'] ?? '', ...options].join(' ').trim();
    await stdoutOf(run('env', [`MESHD_ARGS=${MESHD_ARGS}`, 'node-start', 'node3']));
  };
  const advertised = (address: string) =>
    waitFor(`node3 at ${address}`, 60_000, async () => {
      const { status, address: now } = await nodeRow('node3');
      return status === 'ready' && now === address;
    });
  await ip(t, 'node3', `addr add ${routed}/32 dev lo`, `addr del ${routed}/32 dev lo`);
  for (const node of ['node1', 'node2'])
    await ip(t, node, `route add ${routed}/32 via ${addressOf('node3')}`, `route del ${routed}/32`);
  t.after(async () => {
    await restart();
    await advertised(addressOf('node3'));
  });
  await restart('--advertise', routed);
  await advertised(routed);
  await applyWeb({ replicas: 2 });
  const outside = await clientProbe();
  for (const node of nodeNames()) {
    const nodes = new Set<string>();
    for (let call = 0; call < 4; call += 1) nodes.add(parseWhoami(await outside.http(url(node))).node);
    assert.ok(nodes.has('node3'), `no answer of node3 through ${node}`);
  }
  const overlayMtu = async (node: string) => {
    const text = await stdoutOf(runOn(node, 'ip', '-n', 'mesh-net-ingress', '-j', 'link', 'show', 'vxlan0'));
    return Number(JSON.parse(text)[0].mtu);
  };
  assert.deepEqual([await overlayMtu('node1'), await overlayMtu('node3')], [1_450, 1_450]);
  await stdoutOf(runOn('node1', 'ip', 'route', 'replace', `${routed}/32`, 'via', addressOf('node3'), 'mtu', '1400'));
  await waitFor('the MTU of the route', 10_000, async () => (await overlayMtu('node1')) === 1_350);
  parseWhoami(await outside.http(`${url('node1')}${'x'.repeat(12_000)}`));
});
