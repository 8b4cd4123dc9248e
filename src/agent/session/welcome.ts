import type { Log } from '../../base/log.ts';
import type { AgentDisk } from '../agent-disk.ts';
import type { Conditions } from '../conditions.ts';
import { decideIdentity } from './cluster-identity.ts';
import type { WelcomeMessage } from './messages.ts';

export interface WelcomeOptions {
  disk: Pick<AgentDisk, 'identity' | 'saveIdentity'>;
  conditions: Conditions;
  log: Log;
  /** Of this node. */
  name: string;
  /** Reports everything that the manager does not know of this session's node yet. */
  reportAll(): void;
}

/** Accepts the manager of this node's cluster; throws MeshError `conflict` for another's. */
export function createWelcomeHandler({ disk, conditions, log, name, reportAll }: WelcomeOptions) {
  return async ({ clusterId, nodeId }: WelcomeMessage): Promise<void> => {
    const decision = decideIdentity(disk.identity(), { clusterId, nodeId, name });
    if (decision.kind === 'rejected') {
      conditions.raise(decision.condition);
      throw decision.error;
    }
    conditions.clear('ClusterMismatch');
    if (decision.kind === 'changed') {
      const { previous, identity } = decision;
      if (previous !== undefined) log.warn({ previous, nodeId }, 'the manager assigned a new id to this node');
      await disk.saveIdentity(identity);
    }
    log.info({ clusterId, nodeId }, 'connected to the manager');
    reportAll();
  };
}
