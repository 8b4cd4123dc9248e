// Removing services leaves the skeleton and nothing else.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, meshctl, must, nodeNames, on, rows, until } from './mesh.ts';
import { clientProbe } from './shared.ts';

test('service rm: ports are refused, tasks are gone, no kernel object of the service is left', async () => {
  await must(meshctl('service', 'rm', 'web'));
  const outside = await clientProbe();
  for (const node of nodeNames()) {
    await until(`nothing of web is left on ${node}`, 60_000, async () => {
      const listing = await must(
        on(
          node,
          'sh',
          '-c',
          'ip netns exec mesh-lb ipvsadm -Sn | grep -e "-f" ; ls /run/netns | grep mesh-task; ipset list mesh-pub-tcp | sed -n "/Members/,\\$p" | grep "[0-9]"; true',
        ),
      );
      return listing.trim() === '';
    });
    await assert.rejects(outside.http(`http://${addressOf(node)}:8080/`, { timeout: 5_000 }), /ECONNREFUSED/);
  }
  assert.deepEqual(await rows('service', 'ls'), []);
});
