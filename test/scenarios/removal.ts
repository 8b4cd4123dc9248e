// Removing all services leaves only the base objects of the mesh.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addressOf, listRows, meshctl, nodeNames, runOn, stdoutOf, waitFor } from './harness.ts';
import { clientProbe } from './shared.ts';

test('service rm: ports are refused, tasks are removed, no kernel object of the service is left', async () => {
  await stdoutOf(meshctl('service', 'rm', 'web'));
  const outside = await clientProbe();
  for (const node of nodeNames()) {
    await waitFor(`${node} without objects of web`, 60_000, async () => {
      const listing = await stdoutOf(
        runOn(
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
  assert.deepEqual(await listRows('service', 'ls'), []);
});
