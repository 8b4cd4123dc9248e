// Clients that never stop sending: a UDP flow of one address and port before, while and after a port is published and
// its tasks change; and SCTP, whose associations are as persistent. Times are printed, not asserted, because emulation
// distorts them. The assertion is that the client gets replies again at all.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { after, test } from 'node:test';
import { addressOf, applyManifest, meshctl, nodeNames, run, runOn, stdoutOf, waitFor } from './harness.ts';
import { clientProbe, runningTasks, whoamiManifest } from './shared.ts';

/** Generous: without the fix it never recovers, because the client keeps its flow alive. */
const RECOVERY_TIMEOUT = 60_000;

interface DatagramStream {
  /** Replies received after that time (Date.now). */
  answersSince(moment: number): { at: number; who: string }[];
  stop(): void;
}

const children = new Set<ChildProcess>();
after(() => {
  for (const child of children) child.kill();
});

/** Sends a datagram every 20 ms over one connected socket, also after errors. */
function startStream(host: string, port: number): DatagramStream {
  const script = `
    const socket = require('node:dgram').createSocket('udp4');
    socket.on('error', () => {});
    socket.on('message', (text) => console.log(Date.now() + ' ' + text.toString().trim()));
    socket.connect(${port}, '${host}', () => setInterval(() => socket.send('who', () => {}), 20));`;
  const child = spawn('on', ['client', 'node', '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  const answers: { at: number; who: string }[] = [];
  createInterface({ input: child.stdout }).on('line', (line) => {
    const [at = '', who = ''] = line.split(' ');
    answers.push({ at: Number(at), who });
  });
  return {
    answersSince: (moment) => answers.filter(({ at }) => at >= moment),
    stop: () => {
      children.delete(child);
      child.kill();
    },
  };
}

const manifest = (ports: string[], replicas = 2) => whoamiManifest({ name: 'flows', replicas, ports });

async function apply(text: string): Promise<void> {
  const { status, stderr, stdout } = await applyManifest(text);
  assert.equal(status, 0, stderr || stdout);
}

/** Waits until a new client gets its first reply. */
async function firstAnswer(port: number): Promise<number> {
  const fresh = await clientProbe();
  await waitFor('a reply to a new client', RECOVERY_TIMEOUT, () => fresh.udp(addressOf('node1'), port, 500));
  return Date.now();
}

/** Waits for the stream's first reply after a time; prints the delay compared with a new client. */
async function waitForRecovery(what: string, flow: DatagramStream, moment: number, served: number): Promise<void> {
  const [first] = await waitFor(`${what}: a reply to the continuous client`, RECOVERY_TIMEOUT, async () => {
    const answers = flow.answersSince(moment);
    return answers.length > 0 && answers;
  });
  console.log(`# ${what}: answered ${Math.max(0, first!.at - served)} ms after the first new client`);
}

test('a UDP client that never stops sending reaches a port published after its first packet, and republished later', async () => {
  const port = 7100;
  await apply(manifest(['7101:53/udp']));
  const flow = startStream(addressOf('node1'), port);
  try {
    await waitFor('the client sends', 20_000, async () => {
      const listed = await stdoutOf(runOn('node1', 'conntrack', '-L', '-p', 'udp', '--orig-port-dst', String(port)));
      return listed.includes(`dport=${port}`);
    });
    let moment = Date.now();
    await apply(manifest([`${port}:53/udp`]));
    await waitForRecovery('published', flow, moment, await firstAnswer(port));

    await apply(manifest(['7101:53/udp']));
    await waitFor('no reply, and no packet to the balancer', RECOVERY_TIMEOUT, async () => {
      const entry = await stdoutOf(runOn('node1', 'conntrack', '-L', '-p', 'udp', '--orig-port-dst', String(port)));
      return flow.answersSince(Date.now() - 1_000).length === 0 && !/src=10\.252\.\d+\.2 /.test(entry);
    });

    moment = Date.now();
    await apply(manifest([`${port}:53/udp`]));
    await waitForRecovery('published again', flow, moment, await firstAnswer(port));
  } finally {
    flow.stop();
  }
});

test('a UDP client that never stops sending is moved off a removed task, and reaches a service scaled to zero and back', async () => {
  const port = 7100;
  await apply(manifest([`${port}:53/udp`], 2));
  const flows = [startStream(addressOf('node1'), port), startStream(addressOf('node1'), port)];
  try {
    let moment = Date.now();
    for (const flow of flows) await waitForRecovery('at first', flow, moment, moment);
    moment = Date.now();
    assert.equal((await meshctl('service', 'scale', 'flows=1')).status, 0);
    const [left] = await waitFor('one remaining task', RECOVERY_TIMEOUT, async () => {
      const tasks = await runningTasks('flows');
      return tasks.length === 1 && tasks;
    });
    const name = String(left!['name']);
    for (const flow of flows) {
      const answers = await waitFor(`replies from ${name}`, RECOVERY_TIMEOUT, async () => {
        const all = flow.answersSince(moment);
        return all.at(-1)?.who === name && all;
      });
      const gaps = answers.map(({ at }, index) => at - (answers[index - 1]?.at ?? at));
      console.log(`# removed task: longest silence of a client ${Math.max(...gaps)} ms`);
    }

    assert.equal((await meshctl('service', 'scale', 'flows=0')).status, 0);
    await waitFor('no reply', RECOVERY_TIMEOUT, async () =>
      flows.every((flow) => flow.answersSince(Date.now() - 1_000).length === 0),
    );
    moment = Date.now();
    assert.equal((await meshctl('service', 'scale', 'flows=1')).status, 0);
    const served = await firstAnswer(port);
    for (const flow of flows) await waitForRecovery('zero and back', flow, moment, served);
  } finally {
    for (const flow of flows) flow.stop();
  }
});

test('UDP clients that begin while the rules are away, or before an address is there, are answered later', async () => {
  const port = 7100;
  const address = '172.30.0.201';
  await apply(manifest([`${port}:53/udp`]));
  await firstAnswer(port);
  const flows: DatagramStream[] = [];
  const sends = (destination: string) => async () =>
    (await stdoutOf(runOn('node1', 'conntrack', '-L', '-p', 'udp', '--orig-dst', destination))).includes(
      `dport=${port}`,
    );
  try {
    await stdoutOf(run('node-stop', ['1']));
    await stdoutOf(runOn('node1', 'iptables', '-t', 'nat', '-F'));
    flows.push(startStream(addressOf('node1'), port));
    await waitFor('the client sends', 20_000, sends(addressOf('node1')));
    let moment = Date.now();
    await stdoutOf(run('node-start', ['1']));
    await waitForRecovery('meshd started again', flows[0]!, moment, await firstAnswer(port));

    // In one command, so that the client's next packet arrives between the flush and the repair.
    await stdoutOf(runOn('node1', 'sh', '-c', 'iptables -t nat -F; conntrack -F 2>/dev/null; sleep 0.3'));
    moment = Date.now();
    await waitForRecovery('rules repaired', flows[0]!, moment, await firstAnswer(port));

    // The node is the route to an address that it gets later, as with a VRRP daemon.
    await stdoutOf(runOn('client', 'ip', 'route', 'replace', address, 'via', addressOf('node1')));
    flows.push(startStream(address, port));
    await waitFor('the node forwards the packets', 20_000, sends(address));
    moment = Date.now();
    await stdoutOf(runOn('node1', 'ip', 'address', 'add', `${address}/32`, 'dev', 'lo'));
    await waitForRecovery('address added', flows[1]!, moment, moment);
  } finally {
    for (const flow of flows) flow.stop();
    await runOn('client', 'ip', 'route', 'del', address);
    await runOn('node1', 'ip', 'address', 'del', `${address}/32`, 'dev', 'lo');
  }
});

/** Both ports of one target at once, from one port of the client; IPPROTO_SCTP is 132. */
const TWO_ASSOCIATIONS = `
import socket, sys
socks = [socket.socket(socket.AF_INET, socket.SOCK_STREAM, 132) for _ in range(2)]
for sock, port in zip(socks, (7132, 7133)):
    sock.settimeout(20)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((sys.argv[1], 40132))
    sock.connect((sys.argv[2], port))
print([sock.recv(100).decode().strip() for sock in socks])
`;

async function checkTwoSctpPorts(): Promise<void> {
  const client = addressOf('client');
  for (const node of nodeNames()) {
    const { stdout, stderr } = await runOn('client', 'python3', '-c', TWO_ASSOCIATIONS, client, addressOf(node));
    assert.equal(stdout.trim(), `['assoc.1 sees ${client}', 'assoc.1 sees ${client}']`, `${node}: ${stderr}`);
  }
}

test('sctp: a task is reached through every node and sees the client; without a task it is refused at once', async () => {
  const sctp = (replicas: number) =>
    JSON.stringify({
      services: {
        assoc: {
          command: [
            'socat',
            'SCTP4-LISTEN:132,fork,reuseaddr',
            'SYSTEM:echo "$$MESH_SERVICE.$$MESH_TASK_SLOT sees $$SOCAT_PEERADDR"; sleep 3',
          ],
          ports: ['7132:132/sctp', '7133:132/sctp'],
          deploy: { replicas, placement: { constraints: ['node.hostname != node1'] } },
          'x-mesh': { runtime: 'process' },
        },
      },
    });
  await apply(sctp(1));
  // One direction only: at the end of its input socat would shut the association down, and SCTP has no half-closed state.
  const sendRequest = (node: string) =>
    runOn('client', 'timeout', '30', 'socat', '-T10', '-u', `SCTP4:${addressOf(node)}:7132`, '-');
  for (const node of nodeNames()) {
    const { stdout, stderr } = await waitFor(`a response through ${node}`, RECOVERY_TIMEOUT, async () => {
      const outcome = await sendRequest(node);
      if (outcome.stdout === '') throw new Error(outcome.stderr);
      return outcome;
    });
    assert.equal(stdout.trim(), `assoc.1 sees ${addressOf('client')}`, stderr);
  }
  await checkTwoSctpPorts();
  await apply(sctp(0));
  for (const node of nodeNames()) {
    const begun = Date.now();
    const { status, stderr } = await sendRequest(node);
    console.log(`# sctp without a task on ${node}: ${Date.now() - begun} ms`);
    assert.match(stderr, /refused/i, `status ${status}`);
  }
  assert.equal((await meshctl('service', 'rm', 'assoc', 'flows')).status, 0);
});
