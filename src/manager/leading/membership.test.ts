import { expect, test } from 'vitest';
import { ingress, node } from '../../decide/cluster.test-data.ts';
import { memoryStore } from '../manager.test-data.ts';
import { createClusterIndex } from '../serving/cluster-index.ts';
import { admitNode } from './membership.ts';
import { put } from './writer.ts';

const hello = {
  name: 'node2',
  nodeId: '',
  underlay: '192.0.2.2',
  labels: {},
  version: 'test',
  kernelRelease: '6.1',
  role: 'worker' as const,
  tasks: [],
};

test('a node is rejected with the subnet and what to do when the ingress subnet has no block left', async () => {
  const store = memoryStore();
  const subnets = [{ family: 'inet' as const, cidr: '10.9.0.0/23', blockPrefix: 24 }];
  await store.transact([
    put('networks', { ...ingress, version: 0, subnets }),
    put('nodes', { ...node(1), version: 0 }),
  ]);
  const index = createClusterIndex(store);
  expect(() => admitNode(hello, index, () => false, 1)).toThrow(
    'the ingress subnet 10.9.0.0/23 is exhausted: no address block left for a new node; remove nodes that no longer exist (meshctl node rm)',
  );
  // A node that is known keeps its block.
  expect(admitNode({ ...hello, name: 'node1', underlay: '192.0.2.1' }, index, () => false, 1).number).toBe(1);
});
