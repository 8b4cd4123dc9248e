import { MeshError } from '../../base/errors.ts';
import type { PortCondition } from '../../model/cluster.ts';
import type { Condition } from '../../model/condition.ts';
import type { AgentMessage } from '../../rpc/messages.ts';
import type { Leader } from '../leading/leader.ts';
import type { NodeReports } from './node-reports.ts';
import type { PendingRequests } from './pending-requests.ts';

export interface MessageHandlers {
  leader: Leader;
  reports: NodeReports;
  pendingRequests: PendingRequests;
  /** The kernel of a node holds a revision, but for operations that it rejected. */
  onAck(nodeId: string, revision: number, failures: readonly string[]): void;
  /** A node reported its conditions, all of them. */
  onConditions(nodeId: string, conditions: readonly Condition[]): void;
  /** A node reported where its published ports differ from their declaration. */
  onPortConditions(nodeId: string, conditions: readonly PortCondition[]): void;
}

/** Passes on what an agent sent after its hello; it counts for the agent's own node only. Throws MeshError `invalid`. */
export function handleAgentMessage(
  nodeId: string,
  { message, probeId }: AgentMessage,
  { leader, reports, pendingRequests, onAck, onConditions, onPortConditions }: MessageHandlers,
): void {
  switch (message?.case) {
    case 'hello':
      throw new MeshError('invalid', 'a second hello in one session');
    case 'ack':
      onAck(nodeId, message.value.revision, message.value.failures);
      leader.onDrainProgress();
      return;
    case 'tasks':
      leader.reportTasks(nodeId, message.value.tasks);
      return;
    case 'connections': {
      const active = new Map(message.value.endpoints.map((endpoint) => [endpoint.taskId, endpoint.active]));
      reports.onConnections(nodeId, message.value.revision, active);
      leader.onDrainProgress();
      return;
    }
    case 'conditions':
      onConditions(nodeId, message.value.conditions);
      leader.onConditions(nodeId);
      return;
    case 'listeners':
      reports.onListeners(nodeId, message.value.listeners);
      return;
    case 'portConditions':
      onPortConditions(nodeId, message.value.conditions);
      return;
    case 'answer':
      pendingRequests.onResponse(nodeId, message.value);
      return;
    case 'plan':
      pendingRequests.onDryRunResult(nodeId, probeId, message.value);
      return;
  }
}
