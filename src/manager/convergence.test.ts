import { afterEach, beforeEach, expect, test } from 'vitest';
import type { WatchEvent } from '../rpc/messages.ts';
import { endpoints, spec, type TestCluster, tcp, testCluster } from './manager.test-data.ts';

/* Which nodes hold the published ports of a service: what a client waits for before it calls a service converged. */

let cluster: TestCluster;
beforeEach(async () => {
  cluster = await testCluster();
});
afterEach(() => cluster.stop());

const pendingNodes = async () => {
  const [service] = (await cluster.control.listServices({})).services;
  expect(service!.pending).toBe(service!.pendingNodes.length);
  return service!.pendingNodes;
};

test('a ready node that has not acknowledged the ports is pending, also for a change of ports alone', async () => {
  const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
  await cluster.apply(
    spec('web', { constraints: [{ key: 'node.hostname', operator: '==', value: 'node1' }], ports: [tcp(80)] }),
  );
  await cluster.waitUntil(
    async () => endpoints(two.assignment, 80).length === 1 && (await pendingNodes()).length === 0,
  );
  two.responds = false;
  await cluster.apply(
    spec('web', {
      constraints: [{ key: 'node.hostname', operator: '==', value: 'node1' }],
      ports: [tcp(80), tcp(81)],
    }),
  );
  await cluster.waitUntil(() => endpoints(one.assignment, 81).length === 1);
  await cluster.waitUntil(async () => (await pendingNodes()).join() === 'node2');
  two.responds = true;
  await cluster.waitUntil(async () => (await pendingNodes()).length === 0);
});

test('a node that is down is not pending', async () => {
  await cluster.agent('node1');
  const two = await cluster.agent('node2');
  two.responds = false;
  await cluster.apply(spec('web', { ports: [tcp(80)] }));
  await cluster.waitUntil(async () => (await pendingNodes()).join() === 'node2');
  two.sendsHeartbeats = false;
  await cluster.advanceTime(8_000);
  expect(await pendingNodes()).toEqual([]);
});

test('watchers see when the last node has the ports, and that a node which connects holds nothing yet', async () => {
  const [one, two] = [await cluster.agent('node1'), await cluster.agent('node2')];
  await cluster.apply(spec('web', { ports: [tcp(80)] }));
  await cluster.waitUntil(() => endpoints(one.assignment, 80).length === 1);
  await cluster.waitUntil(async () => (await pendingNodes()).length === 0);
  const seen: WatchEvent[] = [];
  const end = new AbortController();
  const watching = (async () => {
    for await (const event of cluster.control.watch(
      { services: true, tasks: false, nodes: true },
      { signal: end.signal },
    ))
      seen.push(event);
  })().catch(() => {});
  const last = (kind: 'service' | 'node', name: string) =>
    seen.findLast(({ object }) => object?.case === kind && object.value.name === name)?.object?.value as
      | { pending?: number; acknowledgedRevision?: number }
      | undefined;
  await cluster.waitUntil(() => seen.some(({ action }) => action === 'ready'));
  two.responds = false;
  await cluster.apply(spec('web', { ports: [tcp(80), tcp(81)] }));
  await cluster.waitUntil(() => last('service', 'web')?.pending === 1);
  two.responds = true;
  await cluster.waitUntil(() => last('service', 'web')?.pending === 0);
  const { revision } = two.assignment!;
  const again = await cluster.agent('node2', { nodeId: two.nodeId, underlay: '192.0.2.2' });
  await cluster.waitUntil(() => last('node', 'node2')?.acknowledgedRevision === revision);
  expect(again.assignment!.revision).toBe(revision);
  const values = seen.flatMap(({ object }) =>
    object?.case === 'node' && object.value.name === 'node2' ? [object.value.acknowledgedRevision] : [],
  );
  expect(values).toContain(0);
  end.abort();
  await watching;
});
