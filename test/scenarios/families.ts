// Programs that listen for one family only, in a cluster of both.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import {
  addressOf,
  applyManifest,
  listRows,
  meshctl,
  nodeNames,
  type ProbeClient,
  parseWhoami,
  runOn,
  stdoutOf,
} from './harness.ts';
import { clientProbe, inet6Of, urlOf, WHOAMI } from './shared.ts';

const FAMILIES = [
  { name: 'four', port: 8661, present: addressOf, missing: inet6Of, missingName: 'IPv6', wildcard: '::' },
  { name: 'six', port: 8671, present: inet6Of, missing: addressOf, missingName: 'IPv4', wildcard: '0.0.0.0' },
] as const;

let outside: ProbeClient;
before(async () => {
  outside = await clientProbe();
});
after(() => meshctl('service', 'rm', ...FAMILIES.map(({ name }) => name)));

async function traceTo(client: string, node: string, port: string): Promise<{ outcome: string; reason: string }> {
  const target = node.includes(':') ? `[${node}]:${port}` : `${node}:${port}`;
  const { stdout, stderr } = await meshctl('trace', client, target, '--format', 'json');
  const [found] = JSON.parse(stdout || '[]');
  assert.ok(found, stderr);
  return found;
}

test('a program that listens for SCTP over IPv6 alone is judged like the others', async (t) => {
  t.after(() => meshctl('service', 'rm', 'assoc'));
  const assoc = {
    command: ['socat', '-u', 'SCTP6-LISTEN:132,fork,reuseaddr,ipv6only=1', 'EXEC:true'],
    ports: ['8681:132/sctp'],
    deploy: { placement: { constraints: ['node.hostname == node3'] } },
    'x-mesh': { runtime: 'process' },
  };
  await stdoutOf(applyManifest(JSON.stringify({ services: { assoc } }), '--timeout', '3m'));
  const [task] = await listRows('service', 'ps', 'assoc');
  assert.equal(task?.['message'], '132/sctp accepts no IPv4 clients; bind 0.0.0.0 as well');
  const { stderr } = await runOn('client', 'timeout', '30', 'socat', '-u', '-', `SCTP4:${addressOf('node1')}:8681`);
  assert.match(stderr, /refused/i);
  assert.equal((await traceTo(addressOf('client'), addressOf('node1'), '8681/sctp')).outcome, 'refused');
  assert.equal((await traceTo(inet6Of('client'), inet6Of('node1'), '8681/sctp')).outcome, 'answered');
});

for (const { name, port, present, missing, missingName, wildcard } of FAMILIES) {
  test(`a program without ${missingName} serves the other family and says what is missing`, async () => {
    const service = {
      command: [WHOAMI],
      environment: { FAMILY: name === 'four' ? '4' : '6', UDP_PORT: '53' },
      ports: [`${port}:80`, `${port + 1}:53/udp`],
      deploy: { replicas: 2, placement: { constraints: ['node.hostname != node1'] } },
      'x-mesh': { runtime: 'process' },
    };
    const applied = await stdoutOf(applyManifest(JSON.stringify({ services: { [name]: service } }), '--timeout', '3m'));
    const text = `80/tcp, 53/udp accept no ${missingName} clients; bind ${wildcard} as well`;
    assert.ok(applied.includes(`${name}: ${text}`), applied);
    for (const task of await listRows('service', 'ps', name)) {
      assert.deepEqual([task['state'], task['reason'], task['message']], ['running', 'FamilyMissing', text]);
    }
    const listed = (await listRows('port', 'ls')).filter((row) => row['name'] === name);
    for (const row of listed) {
      const degraded = row['degraded'] as { kind: string; message: string }[];
      assert.deepEqual(
        degraded.map(({ kind, message }) => `${kind}: ${message}`).sort(),
        [1, 2].map((slot) => `family: ${name}.${slot} accepts no ${missingName} clients on its port ${row['target']}`),
      );
    }
  });

  for (const node of nodeNames()) {
    test(`through ${node} its clients are answered, those of ${missingName} refused at once, and trace knows`, async () => {
      parseWhoami(await outside.http(urlOf(present(node), port)));
      await assert.rejects(outside.http(urlOf(missing(node), port), { timeout: 5_000 }), /ECONNREFUSED/);
      for (const target of [`${port}`, `${port + 1}/udp`]) {
        assert.equal((await traceTo(present('client'), present(node), target)).outcome, 'answered');
        assert.equal((await traceTo(missing('client'), missing(node), target)).outcome, 'refused');
      }
    });
  }
}
