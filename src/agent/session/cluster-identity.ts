import { MeshError } from '../../base/errors.ts';
import { type Condition, condition, renderCondition } from '../../model/condition.ts';

/** The identity that the cluster assigned to this node. */
export interface Identity {
  clusterId: string;
  nodeId: string;
  name: string;
}

export type IdentityDecision =
  /** The manager belongs to another cluster: nothing of it may be applied. */
  | { kind: 'rejected'; condition: Condition; error: MeshError }
  /** `previous` is the node id it had, when that changed. */
  | { kind: 'changed'; identity: Identity; previous: string | undefined }
  | { kind: 'unchanged' };

/** What a welcome means for a node that has stored `known`; undefined on a node that never joined. */
export function decideIdentity(known: Identity | undefined, offered: Identity): IdentityDecision {
  if (known !== undefined && known.clusterId !== offered.clusterId) {
    const mismatch = condition('ClusterMismatch', {
      own_cluster: known.clusterId,
      manager_cluster: offered.clusterId,
    });
    return { kind: 'rejected', condition: mismatch, error: new MeshError('conflict', renderCondition(mismatch)) };
  }
  if (known?.nodeId === offered.nodeId && known.name === offered.name) return { kind: 'unchanged' };
  const previous = known !== undefined && known.nodeId !== offered.nodeId ? known.nodeId : undefined;
  return { kind: 'changed', identity: offered, previous };
}
