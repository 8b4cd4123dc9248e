// Manual changes in the kernel: objects of meshd are repaired, foreign objects stay byte for byte.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, meshctlOn, nodeNames, parseWhoami, runOn, stdoutOf, waitFor } from './harness.ts';
import { applyWeb, clientProbe } from './shared.ts';

const inNetns = (netns: string, ...command: string[]) => runOn('node1', 'ip', 'netns', 'exec', netns, ...command);

/** node1 responds to a client, three times in a row. */
async function isServed(): Promise<true | false> {
  const outside = await clientProbe();
  try {
    for (let call = 0; call < 3; call += 1) {
      parseWhoami(await outside.http(`http://${addressOf('node1')}:8080/`, { timeout: 2_000 }));
    }
    return true;
  } catch {
    return false;
  }
}

/** `meshctl diff` on node1 reports no difference. */
async function hasNoDrift(): Promise<boolean> {
  const [diff] = JSON.parse(await stdoutOf(meshctlOn('node1', ['diff', '--format', 'json'])));
  const steps = (diff?.steps ?? []) as string[];
  return steps.length === 0;
}

const damageCases: [string, () => Promise<unknown>][] = [
  ['ipvsadm -C in the lb netns', () => stdoutOf(inNetns('mesh-lb', 'ipvsadm', '-C'))],
  ['the vxlan device deleted', () => stdoutOf(inNetns('mesh-net-ingress', 'ip', 'link', 'del', 'vxlan0'))],
  ['the vxlan device down', () => stdoutOf(inNetns('mesh-net-ingress', 'ip', 'link', 'set', 'vxlan0', 'down'))],
  ['the veth to the lb deleted', () => stdoutOf(runOn('node1', 'ip', 'link', 'del', 'mesh0'))],
  ['routes of the router flushed', () => stdoutOf(inNetns('mesh-net-ingress', 'ip', 'route', 'flush', 'proto', '109'))],
  [
    'the FDB emptied',
    () =>
      stdoutOf(
        inNetns(
          'mesh-net-ingress',
          'sh',
          '-c',
          'bridge fdb show dev vxlan0 | while read m r; do bridge fdb del $m dev vxlan0; done',
        ),
      ),
  ],
  ['published ports flushed', () => stdoutOf(runOn('node1', 'ipset', 'flush', 'mesh-pub-tcp'))],
  ['port marks flushed', () => stdoutOf(inNetns('mesh-lb', 'ipset', 'flush', 'mesh-svc-tcp'))],
  ['nat rules flushed', () => stdoutOf(runOn('node1', 'iptables', '-t', 'nat', '-F'))],
  ['mangle rules of the lb flushed', () => stdoutOf(inNetns('mesh-lb', 'iptables', '-t', 'mangle', '-F'))],
  ['a sysctl turned', () => stdoutOf(inNetns('mesh-lb', 'sysctl', '-qw', 'net.ipv4.ip_forward=0'))],
  ['the whole lb netns deleted', () => stdoutOf(runOn('node1', 'ip', 'netns', 'del', 'mesh-lb'))],
  ['the whole ingress netns deleted', () => stdoutOf(runOn('node1', 'ip', 'netns', 'del', 'mesh-net-ingress'))],
];

for (const [what, damage] of damageCases) {
  test(`repaired: ${what}`, async () => {
    await waitFor('node1 to respond before the damage', 30_000, isServed);
    await damage();
    const started = performance.now();
    await waitFor('no drift', 60_000, hasNoDrift);
    await waitFor('node1 to respond', 60_000, isServed);
    console.log(`# ${what}: repaired after ${Math.round(performance.now() - started)} ms`);
  });
}

test('a real server set to weight 0 by hand, one removed and one added: repaired', async () => {
  await applyWeb({ replicas: 2 });
  const listing = await stdoutOf(inNetns('mesh-lb', 'ipvsadm', '-Sn'));
  const servers = [...listing.matchAll(/^-a -f 73616 -r (\S+)/gm)].map((match) => match[1]!);
  assert.equal(servers.length, 2);
  await stdoutOf(inNetns('mesh-lb', 'ipvsadm', '-e', '-f', '73616', '-r', servers[0]!, '-m', '-w', '0'));
  await stdoutOf(inNetns('mesh-lb', 'ipvsadm', '-d', '-f', '73616', '-r', servers[1]!));
  await stdoutOf(inNetns('mesh-lb', 'ipvsadm', '-a', '-f', '73616', '-r', '10.255.255.77:80', '-m'));
  await waitFor('the original listing', 30_000, async () => {
    const now = await stdoutOf(inNetns('mesh-lb', 'ipvsadm', '-Sn'));
    return now.split('\n').sort().join('\n') === listing.split('\n').sort().join('\n');
  });
});

/** Foreign objects on node1 that a careless controller could affect. */
const foreignObjects = `
ipvsadm -A -t 10.99.0.1:80 -s wlc
ipvsadm -a -t 10.99.0.1:80 -r 10.99.0.2:80 -m -w 7
ipvsadm -A -f 73616 -s lc
ip netns add other
ip -n other link add vxlan9 type vxlan id 9 dstport 4790 local 127.0.0.1
ip link add vxlan77 type vxlan id 77 dstport 4791 local 172.30.0.1
ip link add foreign0 type dummy
ip addr add 10.99.0.9/24 dev foreign0
ip link set foreign0 up
ip route add 10.98.0.0/16 dev foreign0
ip rule add fwmark 0x77 lookup 7777 priority 10001
ipset create foreign-set hash:ip
ipset add foreign-set 10.99.0.5
iptables -t nat -N FOREIGN
iptables -t nat -A FOREIGN -p tcp --dport 9999 -j RETURN
iptables -t nat -I PREROUTING -j FOREIGN
iptables -t filter -A FORWARD -s 10.99.0.0/24 -j DROP
ip netns exec mesh-lb ipvsadm -A -t 10.99.0.3:443 -s rr
ip netns exec mesh-lb ipvsadm -a -t 10.99.0.3:443 -r 10.99.0.4:443 -m`;

/** Listings by the system's own tools, without counters. */
async function listForeignObjects(): Promise<string> {
  const text = await stdoutOf(
    runOn(
      'node1',
      'sh',
      '-c',
      `ipvsadm -Sn; ip netns list | grep -v mesh-; ip -n other -d -o link show vxlan9; ip -d -o link show vxlan77
       ip -o addr show foreign0; ip route show dev foreign0; ip rule show; ipset save foreign-set
       iptables -t nat -S FOREIGN; iptables -t nat -S PREROUTING | grep FOREIGN; iptables -S FORWARD | grep 10.99
       ip netns exec mesh-lb ipvsadm -Sn | grep -- '-t '`,
    ),
  );
  return text.replace(/ \(id: \d+\)/g, '');
}

test('foreign objects survive changes, repairs and a restart byte for byte', async () => {
  await stdoutOf(runOn('node1', 'sh', '-ec', foreignObjects));
  const before = await listForeignObjects();
  await applyWeb({ replicas: 3 });
  await stdoutOf(runOn('node1', 'ip', 'link', 'del', 'mesh0'));
  await stdoutOf(inNetns('mesh-lb', 'sh', '-c', 'ipset flush mesh-svc-tcp'));
  await stdoutOf(runOn('node1', 'sh', '-c', 'node-stop node1 KILL; node-start node1'));
  await waitFor('no drift', 60_000, hasNoDrift);
  await waitFor('node1 to respond', 60_000, isServed);
  await applyWeb({ replicas: 2 });
  assert.equal(await listForeignObjects(), before);
});

test('meshctl diff reports no drift on any node at the end', async () => {
  for (const node of nodeNames()) {
    await waitFor(`${node} without drift`, 30_000, async () => {
      const [diff] = JSON.parse(await stdoutOf(meshctlOn(node, ['diff', '--format', 'json'])));
      return ((diff?.steps ?? []) as string[]).length === 0;
    });
  }
});
