import assert from 'node:assert/strict';
import { test } from 'node:test';
import { endpoint, port } from '../../src/plan/assignments.test-data.ts';
import { applyState, assignment, measureChange, node } from './node.ts';
import { runShell, sleep } from './sandbox.ts';

/** Enters a flow into the host's connection tracking; `to` is where its DNAT sent it. */
function flow(protocol: 'udp' | 'tcp', source: string, destination: string, dport: number, to = destination): void {
  const state = protocol === 'tcp' ? '--state ESTABLISHED -u SEEN_REPLY,ASSURED' : '-u SEEN_REPLY';
  const nat = to === destination ? '' : `--dst-nat ${to}`;
  runShell(
    `conntrack -I -p ${protocol} -s ${source} -d ${destination} --sport 1000 --dport ${dport}` +
      ` --reply-src ${destination} --reply-dst ${source} --reply-port-src ${dport} --reply-port-dst 1000` +
      ` --timeout 600 ${state} ${nat}`,
  );
}

/** `udp 192.0.2.50 192.0.2.1 7000` of every flow there is. */
function flows(): string[] {
  return runShell('conntrack -L -f ipv4 2>/dev/null; conntrack -L -f ipv6 2>/dev/null')
    .split('\n')
    .flatMap((line) => {
      const found = /^(\w+) .*?src=(\S+) dst=(\S+) sport=\d+ dport=(\d+) .*?src=(\S+)/.exec(line);
      if (found === null || !['7000', '7001', '53'].includes(found[4]!)) return [];
      return [found.slice(1).join(' ')];
    })
    .sort();
}

/** UDP flows from before a port was published or unpublished are deleted, and no others. */
export function testFlows(): void {
  test('ends flows that a UDP port finds and leaves behind, and no others', async () => {
    const client = '192.0.2.50';
    const local = '192.0.2.1';
    const lb = '10.252.1.2';
    runShell('conntrack -F');
    flow('udp', client, local, 7000);
    flow('udp', '127.0.0.1', '127.0.0.1', 7000);
    flow('udp', '::1', '::1', 7000);
    const others = () => {
      flow('tcp', client, local, 7000);
      flow('udp', client, local, 7001);
      // Forwarded, and redirected by the DNAT of another program.
      flow('udp', client, '198.51.100.7', 7000);
      flow('udp', '192.0.2.51', local, 7000, '172.17.0.2');
      flow('udp', local, '198.51.100.7', 53);
    };
    others();
    const kept = [
      `tcp ${client} ${local} 7000 ${local}`,
      `udp ${client} ${local} 7001 ${local}`,
      `udp ${client} 198.51.100.7 7000 198.51.100.7`,
      `udp 192.0.2.51 ${local} 7000 172.17.0.2`,
      `udp ${local} 198.51.100.7 53 198.51.100.7`,
    ].sort();
    assert.equal(flows().length, 8);

    const published = { ...port('udp', 7000, [endpoint(1, 1, 'inet', 53)]) };
    await measureChange({ ...assignment, ports: [...assignment.ports, published] });
    assert.deepEqual(flows(), kept);

    flow('udp', client, local, 7000, lb);
    assert.equal(flows().length, 6);
    await measureChange(assignment);
    assert.deepEqual(flows(), kept);

    // Many ports at once, and for some clients only.
    flow('udp', client, local, 7000);
    const many = Array.from({ length: 20 }, (_, index) => port('udp', 6_990 + index, []));
    await measureChange({ ...assignment, ports: [...assignment.ports, ...many] });
    assert.deepEqual(
      flows(),
      kept.filter((line) => !line.includes('7001')),
    );
    await measureChange(assignment);
    flow('udp', client, local, 7000);
    flow('udp', '198.51.100.9', local, 7000);
    const restricted = { ...published, allowFrom: ['192.0.2.0/24'], addresses: ['192.0.2.1/32'] };
    await measureChange({ ...assignment, ports: [...assignment.ports, restricted] });
    assert.ok(!flows().includes(`udp ${client} ${local} 7000 ${local}`));
    assert.ok(flows().includes(`tcp ${client} ${local} 7000 ${local}`));
    await measureChange(assignment);
    runShell('conntrack -F');
  });

  test('ends flows that began while its rules or an address were away, and no others', async () => {
    const client = '192.0.2.50';
    const local = '192.0.2.1';
    const late = '192.0.2.77';
    const network = '198.51.100.0/28';
    const published = port('udp', 7000, [endpoint(1, 1, 'inet', 53)]);
    await measureChange({ ...assignment, ports: [...assignment.ports, published] });
    runShell('conntrack -F');
    const stopWatch = node.kernel.watch(() => {});
    try {
      flow('udp', client, local, 7000, '10.252.1.2');
      flow('udp', client, local, 7001);
      flow('tcp', client, local, 7000);
      flow('udp', '192.0.2.51', local, 7000, '172.17.0.2');
      const kept = flows();
      const dead = () => flow('udp', '192.0.2.52', local, 7000);
      for (const command of ['iptables -t nat -F', 'iptables -t nat -D PREROUTING -j MESH-PREROUTING']) {
        runShell(command);
        dead();
        await applyState(node.want);
        assert.deepEqual(flows(), kept, command);
      }
      // From before the start: nothing has to be repaired any more.
      dead();
      await node.kernel.endUntranslatedFlows();
      assert.deepEqual(flows(), kept);

      for (const address of [late, '198.51.100.3']) flow('udp', client, address, 7000);
      assert.equal(flows().length, kept.length + 2);
      await node.kernel.endUntranslatedFlows();
      assert.equal(flows().length, kept.length + 2, 'the host forwards what is sent to other hosts');
      const waitForFlows = async (count: number) => {
        for (let i = 0; i < 200 && flows().length !== count; i++) await sleep(50);
        assert.equal(flows().length, count);
      };
      runShell(`ip addr add ${late}/24 dev underlay0`);
      await waitForFlows(kept.length + 1);
      runShell(`ip addr add ${network} dev lo`);
      await waitForFlows(kept.length);
      assert.deepEqual(flows(), kept);
    } finally {
      stopWatch();
      runShell(`ip addr del ${late}/24 dev underlay0; ip addr del ${network} dev lo; conntrack -F`);
      await measureChange(assignment);
    }
  });
}
