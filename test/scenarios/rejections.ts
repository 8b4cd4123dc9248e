// Invalid input: one clear message, exit status 1, no changes.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { test } from 'node:test';
import { applyManifest, listRows, meshctl, stdoutOf } from './harness.ts';
import { applyWeb, whoamiManifest } from './shared.ts';

const web = (edit: (service: Record<string, unknown>) => void): string => {
  const manifest = JSON.parse(whoamiManifest({ name: 'bad', replicas: 1, ports: ['8090:80'] }));
  edit(manifest.services.bad);
  return JSON.stringify(manifest, null, 2);
};

const bomb = `a: &a [x,x,x,x,x,x,x,x,x]\n${'bcdefghij'
  .split('')
  .map((name, index) => `${name}: &${name} [${Array(9).fill(`*${'abcdefghij'[index]}`).join(',')}]`)
  .join('\n')}\nservices: {}\n`;

const invalidManifests: [string, string, RegExp][] = [
  ['not YAML', 'services: [unclosed\n  web: {', /:\d+:\d+/],
  ['an anchor bomb', bomb, /alias/i],
  ['port 0', web((s) => Object.assign(s, { ports: ['0:80'] })), /port/],
  ['port 70000', web((s) => Object.assign(s, { ports: ['70000:80'] })), /70000/],
  ['a backward range', web((s) => Object.assign(s, { ports: ['80-79:80'] })), /80-79/],
  ['one port twice', web((s) => Object.assign(s, { ports: ['8090:80', '8090:81'] })), /8090/],
  ['a port that web has', web((s) => Object.assign(s, { ports: ['8080:80'] })), /8080.*web/s],
  ['10^9 replicas', web((s) => Object.assign(s, { deploy: { replicas: 1e9 } })), /replicas/],
  ['an unknown key', web((s) => Object.assign(s, { comand: ['x'] })), /comand.*command/s],
  ['a key of compose we lack', web((s) => Object.assign(s, { volumes: ['/a:/b'] })), /volumes/],
];

/** The store's revision and the declared services, which a rejected command must not change. */
async function clusterState(): Promise<unknown> {
  const [status] = await listRows('status');
  return [status?.['cluster'], await listRows('service', 'ls')];
}

let before: unknown;
test('record the state before the rejected commands', async () => {
  before = await clusterState();
});

for (const [what, manifest, message] of invalidManifests) {
  test(`rejected: ${what}`, async () => {
    const outcome = await applyManifest(manifest);
    assert.equal(outcome.status, 1, outcome.stdout + outcome.stderr);
    assert.match(outcome.stderr, message);
    assert.doesNotMatch(outcome.stderr, /\n\s+at .*:\d+/, 'the message contains a stack trace');
  });
}

test('rejected: a manifest of 50 MB', async () => {
  writeFileSync('/tmp/large.yaml', `services:\n${'  # padding\n'.repeat(4_400_000)}`);
  const outcome = await meshctl('apply', '/tmp/large.yaml');
  assert.equal(outcome.status, 1);
  assert.match(outcome.stderr, /large/);
});

test('one invalid service rejects the whole file', async () => {
  const manifest = JSON.parse(whoamiManifest({ name: 'good', replicas: 1, ports: ['8091:80'] }));
  const clash = JSON.parse(whoamiManifest({ name: 'clash', replicas: 1, ports: ['8080:80'] }));
  const outcome = await applyManifest(JSON.stringify({ services: { ...manifest.services, ...clash.services } }));
  assert.equal(outcome.status, 1);
});

test('the rejected commands changed nothing', async () => {
  assert.deepEqual(await clusterState(), before);
});

test('usage errors are exit status 2 and suggest the nearest word', async () => {
  const outcome = await meshctl('servce', 'ls');
  assert.equal(outcome.status, 2);
  assert.match(outcome.stderr, /service/);
});

test('applying the same manifest again changes nothing', async () => {
  await applyWeb({ replicas: 2 });
  const before = await stdoutOf(meshctl('service', 'inspect', 'web', '--format', 'json'));
  await applyWeb({ replicas: 2 });
  assert.equal(await stdoutOf(meshctl('service', 'inspect', 'web', '--format', 'json')), before);
});
