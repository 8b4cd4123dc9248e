import assert from 'node:assert/strict';
import { test } from 'node:test';
import { assertListed, assignment, measureChange } from './node.ts';
import { NETWORK, runJson, runShell } from './sandbox.ts';

interface ListedVxlan {
  mtu: number;
  linkinfo: { info_data: { local6?: string } };
}

/** The same node on hosts that have IPv6 addresses alone. */
export function testUnderlay(): void {
  test('moves to an underlay of IPv6, and back', async () => {
    const peers = assignment.peers.map((peer) => ({ ...peer, underlay: `fd30::${peer.number}` }));
    await measureChange({ ...assignment, self: { ...assignment.self, underlay: 'fd30::1' }, peers });
    assertListed();
    const [vxlan] = runJson<ListedVxlan>(`ip -n ${NETWORK} -d -j link show vxlan0`);
    assert.deepEqual([vxlan!.mtu, vxlan!.linkinfo.info_data.local6], [1_430, 'fd30::1']);
    assert.match(runShell(`bridge -n ${NETWORK} fdb show dev vxlan0`), /02:6d:65:73:00:02 dst fd30::2 .*permanent/);
    assert.match(runShell('ip6tables-save -t raw'), /-d fd30::1\/128 -p udp -m udp --dport 4789 -j CT --notrack/);
    assert.match(runShell('ip6tables-save -t filter'), /--match-set mesh-peers-6 src -j ACCEPT/);
    assert.doesNotMatch(runShell('iptables-save'), /4789/);
    await measureChange(assignment);
    assertListed();
    assert.match(runShell('iptables-save -t raw'), /-d 192\.0\.2\.1\/32 -p udp .*--notrack/);
    assert.doesNotMatch(runShell('ip6tables-save'), /4789/);
  });
}
