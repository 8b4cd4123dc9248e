// Hosts with only IPv6 addresses on the underlay (MESH_WIRE=ipv6): the manager listens, agents join and VXLAN runs over
// IPv6 without configured addresses. MESHD_ARGS sets the families of the cluster.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { addressOf, listRows, nodeNames, type ProbeClient, parseWhoami, runOn, stdoutOf } from './harness.ts';
import { applyWeb, clientProbe, closeProbes, probeOn, runningTasks } from './shared.ts';

const inet = process.env['MESHD_ARGS']?.includes('ipv4') ?? false;
const families = inet ? 'both families' : 'IPv6 alone';

let outsideClient: ProbeClient;
before(async () => {
  outsideClient = await clientProbe();
  await applyWeb({ replicas: 2, ports: ['8080:80'] });
});
after(closeProbes);

test(`${families}: nodes detect their only address`, async () => {
  const nodes = await listRows('node', 'ls');
  assert.deepEqual(nodes.map((node) => node['address']).sort(), nodeNames().map(addressOf).sort());
  for (const node of nodeNames()) {
    assert.equal(
      await stdoutOf(runOn(node, 'ip', '-4', '-o', 'addr', 'show', 'dev', 'eth0')),
      '',
      'the underlay has IPv4 addresses',
    );
    const [vxlan] = JSON.parse(
      await stdoutOf(runOn(node, 'ip', '-n', 'mesh-net-ingress', '-d', '-j', 'link', 'show', 'vxlan0')),
    );
    assert.equal(vxlan.mtu, 1_430);
    assert.equal(vxlan.linkinfo.info_data.local6, addressOf(node));
    assert.match(
      await stdoutOf(runOn(node, 'ip6tables-save', '-t', 'raw')),
      /-d fd30::\S+ -p udp .*--dport 4789 -j CT --notrack/,
    );
  }
});

for (const node of nodeNames()) {
  test(`${families}: a client on ${node}:8080 reaches every task and is seen with its own address`, async () => {
    const tasks = new Set<string>();
    for (let call = 0; call < 4; call += 1) {
      const answer = parseWhoami(await outsideClient.http(`http://[${addressOf(node)}]:8080/`));
      assert.equal(answer.address, addressOf('client'));
      tasks.add(answer.task);
    }
    assert.equal(tasks.size, 2);
    parseWhoami(await outsideClient.http(`http://[${addressOf(node)}]:8080/${'x'.repeat(12_000)}`));
  });

  test(`${families}: ${node} reaches the port itself; localhost responds or is refused at once`, async () => {
    const here = await probeOn(node);
    parseWhoami(await here.http(`http://[${addressOf(node)}]:8080/`));
    for (const host of ['[::1]', '127.0.0.1']) {
      const call = here.http(`http://${host}:8080/`, { timeout: 5_000 });
      if (inet && host === '127.0.0.1') {
        // The IPv4 overlay over the IPv6 underlay: tasks run on other nodes too.
        const nodes = new Set([parseWhoami(await call).node]);
        for (let more = 0; more < 3; more += 1) nodes.add(parseWhoami(await here.http(`http://${host}:8080/`)).node);
        assert.equal(nodes.size, 2);
      } else {
        assert.doesNotMatch(await call.catch((error: Error) => error.message), /no response/);
      }
    }
  });
}

test(`${families}: tasks have addresses of these families and no others`, async () => {
  for (const task of await runningTasks('web')) {
    const addresses = await stdoutOf(
      runOn(String(task['node']), 'ip', '-n', `mesh-task-${task['id']}`, '-o', 'addr', 'show', 'dev', 'eth0'),
    );
    assert.equal(/inet 10\.252\./.test(addresses), inet, addresses);
    assert.match(addresses, /inet6 fd6d:6573:6800:/);
  }
});
