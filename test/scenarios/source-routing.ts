// A node with a second uplink that its routing rules choose by source address. A client that only this uplink reaches is
// answered by a published port as by a program of the node, and `meshctl trace` predicts it.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { meshctl, parseWhoami, run, runOn, stdoutOf, waitFor } from './harness.ts';
import { applyWeb, clientProbe } from './shared.ts';

const CALLED = '172.31.0.1';
const GATEWAY = '172.31.0.100';
/** Of the client: behind the gateway, and in no table but that of the second uplink. */
const FAR = '203.0.113.9';

const onNode = (command: string) => stdoutOf(runOn('node1', 'sh', '-c', command));
const onClient = (command: string) => stdoutOf(runOn('client', 'sh', '-c', command));
const holderOf = (host: string) => readFileSync(`/run/testhost/nodes/${host}/pid`, 'utf8').trim();

async function traceOutcome(): Promise<string> {
  const { stdout, stderr } = await meshctl('trace', FAR, `${CALLED}:8080`, '--format', 'json');
  const [found] = JSON.parse(stdout || '[]');
  assert.ok(found, stderr);
  return `${found.outcome} ${found.reason}`;
}

/** Whether the published port answers, by HTTP and by UDP, as trace predicts. */
async function expectAnswers(answered: boolean): Promise<void> {
  const client = await clientProbe();
  const http = () => client.http(`http://${CALLED}:8080/`, { timeout: 3_000, localAddress: FAR });
  if (answered) {
    await waitFor('a response over the second uplink', 20_000, http);
    assert.equal(parseWhoami(await http()).address, FAR);
    await waitFor('a response over UDP', 20_000, () => client.udp(CALLED, 5353, 1_000));
  } else {
    await waitFor('no response', 20_000, () =>
      http().then(
        () => false,
        () => true,
      ),
    );
  }
  assert.match(await traceOutcome(), answered ? /^answered/ : /^lost .*no way back/);
}

test('source routing: answers leave as if the called address had sent them', async () => {
  await applyWeb({ replicas: 2 });
  const ends = [
    'name',
    'eth1',
    'netns',
    holderOf('node1'),
    'type',
    'veth',
    'peer',
    'name',
    'eth1',
    'netns',
    holderOf('client'),
  ];
  await stdoutOf(run('ip', ['link', 'add', ...ends]));
  try {
    await onNode(`ip link set eth1 up; ip address add ${CALLED}/24 dev eth1
      ip route add default via ${GATEWAY} table 100`);
    await onClient(`ip link set eth1 up; ip address add ${GATEWAY}/24 dev eth1; ip address add ${FAR}/32 dev lo
      ip route replace 172.31.0.1/32 dev eth1 src ${FAR}`);
    // Without the rule, a program of the node cannot answer either.
    await expectAnswers(false);
    await onNode(`ip rule add from ${CALLED} lookup 100`);
    await expectAnswers(true);
    // The reverse path check of the request looks for the way of the answer.
    await onNode('sysctl -qw net.ipv4.conf.eth1.rp_filter=1; ip rule add from 198.51.100.1 lookup 100');
    await expectAnswers(true);
    // A connection of the node itself meets its own rule with the lb as destination.
    await stdoutOf(runOn('node1', 'curl', '-sS', '--max-time', '10', `http://${CALLED}:8080/`));
    await onNode(`ip rule del from ${CALLED} lookup 100; ip rule add from 172.31.0.0/16 iif lo lookup 100`);
    await expectAnswers(true);
    await onNode('ip rule add iif eth1 lookup 100');
    await expectAnswers(true);
    await onNode('ip rule del iif eth1 lookup 100; ip rule del from 172.31.0.0/16 iif lo lookup 100');
    await onNode('ip rule del from 198.51.100.1 lookup 100; sysctl -qw net.ipv4.conf.eth1.rp_filter=0');
    await expectAnswers(false);
    await waitFor('no rule of meshd', 10_000, async () => !(await onNode('ip rule')).includes('proto 109'));
  } finally {
    await runOn('node1', 'sh', '-c', 'ip link del eth1; ip route flush table 100');
    await runOn('client', 'ip', 'address', 'del', `${FAR}/32`, 'dev', 'lo');
  }
});
