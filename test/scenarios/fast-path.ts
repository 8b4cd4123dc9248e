// The fast path in mode `full`: packets use it, the standard path handles the others, and repairs restore it.
import assert from 'node:assert/strict';
import { before, test } from 'node:test';
import { nodeInfo } from '../torture/queries.ts';
import {
  addressOf,
  applyManifest,
  meshctl,
  nodeNames,
  type ProbeClient,
  parseWhoami,
  run,
  runOn,
  stdoutOf,
  waitFor,
} from './harness.ts';
import { applyWeb, clientProbe, probeOn, readCounters, whoamiManifest } from './shared.ts';

const client = addressOf('client');
const LINK = 'eth0';
let outsideClient: ProbeClient;

before(async () => {
  outsideClient = await clientProbe();
  await applyWeb({ replicas: 2 });
});

/** Entries of the host's conntrack for a published port. */
async function countTrackedFlows(node: string, port: number): Promise<number> {
  const listed = await runOn(node, 'conntrack', '-L', '-p', 'tcp', '--orig-port-dst', String(port));
  return listed.stdout.split('\n').filter((line) => line.includes(`dport=${port}`)).length;
}

async function listFilters(node: string): Promise<string> {
  return stdoutOf(runOn(node, 'tc', 'filter', 'show', 'dev', LINK, 'ingress'));
}

test('packets of unrestricted ports create no conntrack entry on the host, on every node', async () => {
  for (const node of nodeNames()) {
    assert.match(await listFilters(node), /mesh-host-in/);
    await stdoutOf(runOn(node, 'conntrack', '-F'));
    const answer = parseWhoami(await outsideClient.http(`http://${addressOf(node)}:8080/?wait=200`));
    assert.equal(answer.address, client);
    assert.equal(await countTrackedFlows(node, 8080), 0, `${node} tracks flows of the fast path`);
  }
});

test('trace shows the fast path', async () => {
  const output = await stdoutOf(meshctl('trace', client, 'node1:8080'));
  assert.match(output, /mesh-host-in.*the fast path/);
});

/** Packets received by the VXLAN devices of all routers and lbs. */
async function countDecapsulatedByDevices(): Promise<number> {
  const counts = nodeNames().flatMap((node) =>
    ['mesh-net-ingress', 'mesh-lb'].map(async (netns) => {
      const [link] = JSON.parse(await stdoutOf(runOn(node, 'ip', '-n', netns, '-s', '-j', 'link', 'show', 'vxlan0')));
      return Number(link.stats64.rx.packets);
    }),
  );
  return (await Promise.all(counts)).reduce((sum, count) => sum + count, 0);
}

test('short packets between nodes bypass the VXLAN device, long ones pass through it', async () => {
  await applyWeb({ replicas: 1 });
  const sendRequest = async (path: string) => {
    for (const node of nodeNames()) {
      const answer = parseWhoami(await outsideClient.http(`http://${addressOf(node)}:8080/${path}`));
      assert.equal(answer.address, client);
    }
  };
  const atFirst = await countDecapsulatedByDevices();
  await sendRequest('');
  assert.equal(await countDecapsulatedByDevices(), atFirst);
  await sendRequest(`?${'x'.repeat(300)}`);
  assert.ok((await countDecapsulatedByDevices()) > atFirst);
  await applyWeb({ replicas: 2 });
});

test('ports with restricted clients take the standard path, and admit no others', async () => {
  const manifest = JSON.parse(whoamiManifest({ name: 'shut', replicas: 1, ports: [] }));
  const port = (published: number, network: string) => ({
    target: 80,
    published: String(published),
    'x-mesh': { allow_from: [network] },
  });
  manifest.services.shut.ports = [port(8090, `${client}/32`), port(8091, '192.0.2.0/24')];
  await stdoutOf(applyManifest(JSON.stringify(manifest)));
  const node = 'node1';
  await stdoutOf(runOn(node, 'conntrack', '-F'));
  parseWhoami(await outsideClient.http(`http://${addressOf(node)}:8090/`));
  assert.ok((await countTrackedFlows(node, 8090)) > 0);
  await assert.rejects(outsideClient.http(`http://${addressOf(node)}:8091/`, { timeout: 5_000 }), /ECONNREFUSED/);
  await stdoutOf(meshctl('service', 'rm', 'shut'));
});

test('a port without tasks refuses at once, and responds again once there are tasks', async () => {
  await applyWeb({ replicas: 0 });
  for (const node of nodeNames()) {
    await assert.rejects(outsideClient.http(`http://${addressOf(node)}:8080/`, { timeout: 5_000 }), /ECONNREFUSED/);
  }
  await applyWeb({ replicas: 2 });
  for (const node of nodeNames()) parseWhoami(await outsideClient.http(`http://${addressOf(node)}:8080/`));
});

/** A TCP segment without a connection (only ACK), from the client's port 4444. */
const SEND_UNRELATED_SEGMENT = `
import socket, struct, sys
source, target, port = sys.argv[1], sys.argv[2], int(sys.argv[3])
def segment(sum):
    return struct.pack('!HHIIBBHHH', 4444, port, 7, 7, 0x50, 0x10, 512, sum, 0)
pseudo = socket.inet_aton(source) + socket.inet_aton(target) + struct.pack('!BBH', 0, 6, 20) + segment(0)
total = sum(struct.unpack('!%dH' % (len(pseudo) // 2), pseudo))
total = (total >> 16) + (total & 0xffff)
raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)
raw.sendto(segment(~(total + (total >> 16)) & 0xffff), (target, 0))
`;

test('a segment without a connection gets a reset, so that clients of a rebooted node notice at once', async () => {
  const target = addressOf('node1');
  const capture = runOn(
    'client',
    'timeout',
    '30',
    'tcpdump',
    '-nnlc1',
    '-i',
    'eth0',
    `tcp[13] & 4 != 0 and src ${target}`,
  );
  const sending = setInterval(
    () => void runOn('client', 'python3', '-c', SEND_UNRELATED_SEGMENT, client, target, '8080'),
    1_000,
  );
  const { stdout } = await capture;
  clearInterval(sending);
  assert.match(stdout, /\.8080 > .*\.4444: Flags \[R/);
});

test('one client port through one node after the other: state of an ended connection does not affect the next', async () => {
  for (let round = 0; round < 2; round += 1) {
    for (const node of nodeNames()) {
      const answer = parseWhoami(await outsideClient.http(`http://${addressOf(node)}:8080/`, { localPort: 45_999 }));
      assert.equal(answer.address, client);
    }
  }
});

/** Entries of the routers' conntrack for a client port. */
async function countTrackedFlowsInside(port: number): Promise<string> {
  const list = ['ip', 'netns', 'exec', 'mesh-net-ingress', 'conntrack', '-L', '-p', 'tcp'];
  const listed = await Promise.all(nodeNames().map(async (node) => (await runOn(node, ...list)).stdout.split('\n')));
  return listed
    .flat()
    .filter((line) => line.includes(`sport=${port} `))
    .join('\n');
}

test('one client port through three nodes at once: the first keeps it, the others have aliases, conntrack has none', async () => {
  await applyWeb({ replicas: 1 });
  const localPort = 45_998;
  const urls = nodeNames().map((node) => `http://${addressOf(node)}:8080/?wait=1500`);
  const answers = (await Promise.all(urls.map((url) => outsideClient.http(url, { localPort })))).map(parseWhoami);
  assert.deepEqual(new Set(answers.map(({ address }) => address)), new Set([client]));
  const ports = answers.map(({ port }) => port);
  assert.equal(ports.filter((port) => port === localPort).length, 1, `seen: ${ports}`);
  assert.equal(new Set(ports).size, 3, `seen: ${ports}`);
  assert.equal(await countTrackedFlowsInside(localPort), '');
  await applyWeb({ replicas: 2 });
});

test('the node itself reaches its ports, by its own address and by localhost', async () => {
  for (const node of nodeNames()) {
    const here = await probeOn(node);
    parseWhoami(await here.http(`http://${addressOf(node)}:8080/`));
    parseWhoami(await here.http('http://127.0.0.1:8080/'));
  }
});

/** Receives one datagram, then closes its socket. */
const ONE_DATAGRAM_SERVER = `
import socket, time
listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
listener.bind(('', 54))
listener.recv(9)
listener.close()
time.sleep(3600)
`;

test('UDP to a task that has stopped listening is refused by an ICMP error of the task, through every node', async () => {
  const manifest = JSON.parse(whoamiManifest({ name: 'deaf', replicas: 1, ports: ['5354:54/udp'] }));
  manifest.services.deaf.command = ['python3', '-c', ONE_DATAGRAM_SERVER];
  await stdoutOf(applyManifest(JSON.stringify(manifest)));
  for (const node of nodeNames()) {
    const refused = () => outsideClient.udp(addressOf(node), 5354, 2_000).catch((error: Error) => error.message);
    await waitFor(`${node} to refuse`, 10_000, async () => /ECONNREFUSED/.test(await refused()));
  }
  await stdoutOf(meshctl('service', 'rm', 'deaf'));
});

test('one source port of UDP through three nodes, one after the other: each responds', async () => {
  for (const node of [...nodeNames(), ...nodeNames()]) {
    // If the port arrived at another node before, its second datagram takes the standard path, which may lose the first reply.
    const to = `UDP4:${addressOf(node)}:5353,sourceport=7777,reuseaddr`;
    const sendRequest = () => stdoutOf(runOn('client', 'sh', '-c', `echo x | socat -t 1 - ${to}`));
    const answer = parseWhoami(
      await waitFor(`${node} to respond`, 10_000, async () => (await sendRequest()).trim() || false),
    );
    assert.equal(answer.address, client);
  }
});

test('kill -9 of every agent: open connections and programs survive, no kernel operation', async () => {
  const programs = new Map<string, string>();
  for (const node of nodeNames()) {
    await outsideClient.hold(`short-${node}`, addressOf(node), 8080);
    programs.set(node, await listFilters(node));
  }
  for (const node of nodeNames()) {
    await stdoutOf(run('node-stop', [node, 'KILL']));
    await stdoutOf(run('node-start', [node]));
  }
  for (const node of nodeNames()) {
    await waitFor(
      `${node} is connected again`,
      60_000,
      async () => Number((await nodeInfo(node)).assignmentRevision) > 0,
    );
    assert.match(await outsideClient.request(`short-${node}`), /sees /);
    await outsideClient.release(`short-${node}`);
    assert.equal(await listFilters(node), programs.get(node));
    assert.equal((await readCounters(node)).operations, 0, `${node} executed kernel operations without a change`);
  }
});

for (const [what, command] of [
  ['the filter on the underlay link', `tc filter del dev ${LINK} ingress pref 4096`],
  ['the qdisc on the underlay link', `tc qdisc del dev ${LINK} clsact`],
  ['the filter for replies', 'tc filter del dev mesh0 ingress'],
  ['the router\u2019s filter', 'ip netns exec mesh-net-ingress tc filter del dev vxlan0 ingress'],
  ['the way past the VXLAN device', 'ip link del mesh1'],
] as const) {
  test(`${what} deleted by hand is restored, and the port responds`, async () => {
    const node = 'node2';
    const before = (await readCounters(node)).repairs;
    await stdoutOf(runOn(node, 'sh', '-c', command));
    await waitFor('it is repaired', 30_000, async () => (await readCounters(node)).repairs > before);
    for (const name of nodeNames()) parseWhoami(await outsideClient.http(`http://${addressOf(name)}:8080/`));
    assert.match(await listFilters(node), /mesh-host-in/);
  });
}
