import assert from 'node:assert/strict';
import { closeSync } from 'node:fs';
import { createServer } from 'node:net';
import { after, before, describe, test } from 'node:test';
import { diff } from '../../src/diff/diff.ts';
import { runPreflight } from '../../src/kernel/host/preflight.ts';
import { bindSocket, openSocket } from '../../src/kernel/host/process.ts';
import type { Sysctl } from '../../src/model/kinds/sysctl.ts';
import { testApply } from './apply-tests.ts';
import { testBalancing } from './balancing-tests.ts';
import { DAMAGE_CASES, IPVS_DAMAGE_CASES } from './damage.ts';
import { testFastPath } from './fast-path-tests.ts';
import { testFlows } from './flows-tests.ts';
import { createForeignObjects, listForeignObjects } from './foreign.ts';
import { testLegacyFirewall } from './iptables-legacy-tests.ts';
import { applyState, assertListed, damageAndRepair, findObject, ipvsOptions, node, openNode } from './node.ts';
import { replayOnRealAndModel } from './replay.ts';
import { testGroups } from './rule-group-tests.ts';
import { enterSandbox, NETWORK, runShell, TASK } from './sandbox.ts';
import { testSourceRouting } from './source-routing-tests.ts';
import { testTrace } from './trace-tests.ts';
import { testUnderlay } from './underlay-tests.ts';
import { testWatch } from './watch-tests.ts';

/**
 * The Linux driver on a real kernel: it builds the plan of one node of three, and the listings of ip, bridge, ipset,
 * ipvsadm and iptables are compared with it. The order matters: each test starts from the state the last one left.
 */
enterSandbox();

let foreign = '';

before(async () => {
  createForeignObjects();
  foreign = listForeignObjects();
  await openNode();
});

after(() => node.kernel.close());

describe('the Linux driver', () => {
  test('finds that this kernel meets the requirements', ipvsOptions, async () => {
    assert.deepEqual(await runPreflight(), []);
  });

  test('observes nothing of its own at first', async () => {
    const have = await node.kernel.observe();
    const made = [...have.values()].filter(({ kind }) => kind !== 'sysctl');
    assert.deepEqual(made, []);
  });

  test('builds a node, and the real tools list it', async () => {
    await applyState(node.want);
    assertListed();
    for (const netns of ['host', 'mesh-lb', NETWORK, TASK]) {
      const settings = [...node.want.values()].filter(
        (object) => object.kind === 'sysctl' && object.netns === netns,
      ) as Sysctl[];
      const exec = netns === 'host' ? '' : `ip netns exec ${netns} `;
      const values = runShell(`${exec}sysctl -n ${settings.map(({ name }) => name).join(' ')}`)
        .trim()
        .split('\n');
      assert.deepEqual(
        values,
        settings.map(({ value }) => value),
      );
    }
    const vxlan = JSON.parse(runShell(`ip -n ${NETWORK} -j -d link show vxlan0`))[0];
    assert.equal(vxlan.address, '02:6d:65:73:00:01');
    assert.deepEqual(vxlan.flags.includes('UP'), true);
    const { id, local, port: outer, learning, gbp } = vxlan.linkinfo.info_data;
    assert.deepEqual([id, local, outer, learning, gbp], [4096, '192.0.2.1', 4789, false, true]);
    assert.match(runShell('ss -Hlun sport = :4789'), /:4789/, 'its socket stays in the underlay');
  });

  testApply();

  testBalancing();

  describe('repairs what was changed by hand', () => {
    for (const [name, command] of DAMAGE_CASES) test(name, () => damageAndRepair(command));
    for (const [name, command] of IPVS_DAMAGE_CASES) test(name, ipvsOptions, () => damageAndRepair(command));
    test('and at the end the real tools list the desired state', assertListed);
  });

  test('the model kernel behaves the same after the same changes', () => replayOnRealAndModel(node.kernel, node.want));

  testGroups();

  testFlows();

  testUnderlay();

  testSourceRouting();

  testTrace();

  testLegacyFirewall();

  testWatch();

  testFastPath();

  test('lists the listening sockets of a netns', async () => {
    const path = node.kernel.netnsPath(TASK);
    const tcp = openSocket({ netns: path, type: 1 });
    bindSocket(tcp, '10.252.1.5', 8000);
    const udp = openSocket({ netns: path, family: 10, type: 2 });
    bindSocket(udp, '::', 5300);
    runShell(`ip netns exec ${TASK} sysctl -qw net.ipv6.bindv6only=1`);
    const only = openSocket({ netns: path, family: 10, type: 2 });
    bindSocket(only, '::', 5301);
    const server = createServer().listen({ fd: tcp });
    await new Promise((resolve) => server.once('listening', resolve));
    const found = await node.kernel.listeners(TASK);
    assert.deepEqual(
      found.map(({ protocol, address, port: number, v6only }) => `${protocol} ${address} ${number} ${v6only}`).sort(),
      ['tcp 10.252.1.5 8000 undefined', 'udp :: 5300 undefined', 'udp :: 5301 true'],
    );
    server.close();
    closeSync(udp);
    closeSync(only);
  });

  test("leaves the administrator's chain alone while it holds rules", async () => {
    runShell('iptables -A MESH-USER -s 198.51.100.9/32 -j DROP');
    const held = () => runShell('iptables -S MESH-USER');
    const before = held();
    assert.deepEqual(diff(await node.kernel.observe(), node.want), []);
    const chain = findObject('chain', ({ administrator, family }) => administrator === true && family === 'inet');
    // As if it had been created between the observation and the operation.
    await node.kernel.apply([
      { verb: 'create', object: chain },
      { verb: 'delete', object: chain },
    ]);
    assert.equal(held(), before);
    const all = node.want;
    node.want = new Map();
    await applyState(node.want);
    assert.equal(held(), before);
    assert.doesNotMatch(runShell('iptables-save'), /-j MESH/);
    node.want = all;
    await applyState(node.want);
    assert.equal(held(), before);
    assert.match(runShell('iptables-save'), /-A MESH-FORWARD -o mesh0 -j MESH-USER/);
    runShell('iptables -F MESH-USER');
  });

  test('removes everything of its own and nothing else', async () => {
    node.want = new Map();
    await applyState(node.want);
    assert.match(runShell('ip netns list').trim(), /^foreign\b[^\n]*$/);
    assert.deepEqual([...(await node.kernel.observe()).keys()], []);
    assert.doesNotMatch(
      runShell('iptables-save; ip6tables-save; ipset save; ip link; ip -d route; ip -6 route'),
      /mesh|MESH|proto 109/,
    );
    assert.equal(listForeignObjects(), foreign);
  });
});
