import { expect, it } from 'vitest';
import { decideIdentity } from './cluster-identity.ts';

const known = { clusterId: 'c1', nodeId: 'n1', name: 'node1' };

it('accepts the first cluster, and the own one again', () => {
  expect(decideIdentity(undefined, known)).toEqual({ kind: 'changed', identity: known, previous: undefined });
  expect(decideIdentity(known, { ...known })).toEqual({ kind: 'unchanged' });
});

it('follows a new node id or name in its cluster', () => {
  const id = { ...known, nodeId: 'n2' };
  expect(decideIdentity(known, id)).toEqual({ kind: 'changed', identity: id, previous: 'n1' });
  const name = { ...known, name: 'other' };
  expect(decideIdentity(known, name)).toEqual({ kind: 'changed', identity: name, previous: undefined });
});

it('rejects the manager of another cluster', () => {
  const decision = decideIdentity(known, { ...known, clusterId: 'c2' });
  expect(decision).toMatchObject({
    kind: 'rejected',
    condition: { code: 'ClusterMismatch', params: { own_cluster: 'c1', manager_cluster: 'c2' } },
    error: { code: 'conflict' },
  });
});
