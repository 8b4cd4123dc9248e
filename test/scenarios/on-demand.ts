// Tasks that bind a published port only later, as passive FTP does, and commands that go into the background.
import assert from 'node:assert/strict';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import {
  addressOf,
  applyManifest,
  listRows,
  meshctl,
  type ProbeClient,
  parseWhoami,
  stdoutOf,
  waitFor,
} from './harness.ts';
import { clientProbe, WHOAMI } from './shared.ts';

/** The hosts of the mesh share /tmp. A task binds port 81 while its file is there. */
const SIGNS = '/tmp/mesh-on-demand';
const CLIENT = addressOf('client');

const service = (first: number, mesh: object = {}, more: object = {}) => ({
  command: [WHOAMI],
  environment: { HEALTHY_IN: SIGNS, HEALTH_PORT: '81' },
  ports: [`${first}:80`, `${first + 1}:81`],
  deploy: { placement: { constraints: ['node.hostname == node3'] } },
  'x-mesh': { runtime: 'process', ...mesh },
  ...more,
});
const longPorts = [
  { target: 80, published: 8631 },
  { target: 81, published: 8632, 'x-mesh': { ready: false } },
];
const SERVICES = {
  listed: service(8621, { ready: [80] }),
  marked: service(8631, {}, { ports: longPorts }),
  checked: service(8641, { healthcheck: { http: { port: 80 }, interval: '2s' } }),
};

let outside: ProbeClient;
before(async () => {
  rmSync(SIGNS, { recursive: true, force: true });
  mkdirSync(SIGNS);
  outside = await clientProbe();
});
after(() => meshctl('service', 'rm', ...Object.keys(SERVICES)));

async function outcomeOf(port: number): Promise<{ outcome: string; reason: string }> {
  const { stdout, stderr } = await meshctl('trace', CLIENT, `node1:${port}`, '--format', 'json');
  const [found] = JSON.parse(stdout || '[]');
  assert.ok(found, stderr);
  return found;
}
const ask = (port: number) => outside.http(`http://${addressOf('node1')}:${port}/`, { timeout: 5_000 });

test('a service with a port that is bound on demand converges, by `ready` or by its health check', async () => {
  await stdoutOf(applyManifest(JSON.stringify({ services: SERVICES }), '--timeout', '3m'));
  for (const { ports } of [SERVICES.listed, SERVICES.checked]) {
    assert.equal(parseWhoami(await ask(Number.parseInt(String(ports[0]), 10))).node, 'node3');
  }
  assert.equal(parseWhoami(await ask(8631)).node, 'node3');
});

test('its port refuses clients until it is bound, and trace says so', async () => {
  for (const [name, port] of [
    ['listed', 8622],
    ['marked', 8632],
    ['checked', 8642],
  ] as const) {
    const before = await outcomeOf(port);
    assert.equal(before.outcome, 'refused');
    assert.match(before.reason, /no socket of the task accepts IPv4 on 81\/tcp/);
    await assert.rejects(ask(port), /ECONNREFUSED/);
    writeFileSync(`${SIGNS}/${name}.1`, '');
    // It accepts connections and ends them.
    await waitFor(`an open port ${port}`, 10_000, () =>
      ask(port).then(
        () => false,
        (error: Error) => !/ECONNREFUSED/.test(error.message),
      ),
    );
    assert.equal((await outcomeOf(port)).outcome, 'answered');
  }
});

test('without either, the task does not get ready and says what to declare', async (t) => {
  t.after(() => meshctl('service', 'rm', 'waiting'));
  await stdoutOf(applyManifest(JSON.stringify({ services: { waiting: service(8651) } }), '--detach'));
  const reason = await waitFor('the reason', 30_000, async () =>
    (await listRows('service', 'ps', 'waiting')).find((task) => task['reason'] === 'PortsNotBound'),
  );
  assert.equal(
    reason['message'],
    'the process runs but nothing listens on 81/tcp; a port that is bound on demand needs `ready: false` or a health check',
  );
});

test('a command that goes into the background says what it left behind', async (t) => {
  t.after(() => meshctl('service', 'rm', 'daemon'));
  const command = ['sh', '-c', 'setsid sleep 1000 & until grep -qsx sleep /proc/[0-9]*/comm; do :; done'];
  const deploy = { restart_policy: { condition: 'on-failure' } };
  const daemon = { command, deploy, 'x-mesh': { runtime: 'process' } };
  await stdoutOf(applyManifest(JSON.stringify({ services: { daemon } }), '--detach'));
  const ended = await waitFor('its end', 30_000, async () =>
    (await listRows('service', 'ps', 'daemon')).find((task) => task['state'] === 'complete'),
  );
  assert.equal(ended['reason'], 'Daemonized');
  assert.equal(ended['message'], 'exit code 0, but left sleep behind, which was killed: run it in the foreground');
});
