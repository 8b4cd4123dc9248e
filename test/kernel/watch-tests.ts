import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Scope } from '../../src/kernel/kernel.ts';
import type { KernelObject } from '../../src/model/kinds/registry.ts';
import { task } from '../../src/plan/assignments.test-data.ts';
import { applyState, assignment, FAMILIES, measureChange, node } from './node.ts';
import { NETWORK, runShell, sleep, TASK } from './sandbox.ts';

/** What the driver reports of changes by others. */
export function testWatch(): void {
  test('reports what others change and where, and not its own changes', async () => {
    const scopes: Scope[] = [];
    const stop = node.kernel.watch((scope) => scopes.push(scope));
    const reports = async (what: string, is: (scope: Scope) => boolean) => {
      for (let i = 0; i < 200 && !scopes.some(is); i++) await sleep(50);
      assert.ok(scopes.some(is), `${what}: ${JSON.stringify(scopes)}`);
    };
    const about = (netns: string, kind: KernelObject['kind']) => (scope: Scope) =>
      (scope.netns?.includes(netns) ?? true) && (scope.kinds?.includes(kind) ?? true);
    try {
      // Everything the driver can do, then a foreign change: the first report must be the foreign one.
      const task2 = task('bbbbbbbbbbbb', 1, 2, FAMILIES);
      await measureChange({ ...assignment, tasks: [...assignment.tasks, task2], peers: assignment.peers.slice(1) });
      await measureChange(assignment);
      runShell(`ip -n ${NETWORK} neigh del 10.252.2.0 dev vxlan0`);
      await reports('a deleted neighbour', about(NETWORK, 'neighbour'));
      assert.deepEqual(scopes, [{ netns: [NETWORK], kinds: ['neighbour'] }]);
      await applyState(node.want);

      const cases: [string, string, string, KernelObject['kind']][] = [
        [`ip -n ${TASK} addr flush dev eth0`, 'addresses', TASK, 'address'],
        [`ip -n ${NETWORK} route del 10.252.2.0/24`, 'a route', NETWORK, 'route'],
        [`ip -n ${NETWORK} rule del priority 10002`, 'a rule', NETWORK, 'rule'],
        // Rules of other programs are watched with the network of the host.
        ['ip rule add from 192.0.2.1 lookup 77 priority 5 protocol 109', 'a rule of the host', 'host', 'host-rule'],
        [`bridge -n ${NETWORK} fdb del 02:6d:65:73:00:02 dev vxlan0`, 'a forwarding entry', NETWORK, 'fdb'],
        ['ip -n mesh-lb link set host0 mtu 1400', 'the far end of a pair, reported for its near end', 'host', 'veth'],
        [`ip -n ${NETWORK} link del vxlan0`, 'a vxlan device', NETWORK, 'vxlan'],
        ['ip link del mesh0', "the host's veth", 'host', 'veth'],
        [`ip netns del ${TASK}`, 'a netns', TASK, 'netns'],
        ['ip netns add mesh-task-new', 'a new netns', 'mesh-task-new', 'netns'],
        ['ip -n mesh-lb link set lo down', 'loopback', 'mesh-lb', 'netns'],
      ];
      if (runShell('iptables -V').includes('nf_tables')) {
        cases.push(['iptables -t nat -F MESH-OUTPUT', 'a chain', 'host', 'chain']);
        cases.push(['iptables -t nat -D OUTPUT -j MESH-OUTPUT', 'a jump', 'host', 'jump']);
      }
      for (const [command, what, netns, kind] of cases) {
        scopes.length = 0;
        runShell(command);
        await reports(what, about(netns, kind));
        await applyState(node.want);
      }
    } finally {
      stop();
    }
  });
}
