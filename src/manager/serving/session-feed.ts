import type { Clock } from '../../base/clock.ts';
import { assignment, nodeTask, peer } from '../../decide/assign.ts';
import type { Assignment, AssignmentDelta } from '../../model/assignment.ts';
import { isEmptyDelta } from '../../model/assignment-delta.ts';
import type { Node } from '../../model/cluster.ts';
import type { AgentMessage, ManagerMessage } from '../../rpc/messages.ts';
import type { Duplex } from '../../rpc/session.ts';
import type { AssignmentChanges } from './assignment-changes.ts';
import type { ClusterIndex } from './cluster-index.ts';
import type { PortTable } from './port-table.ts';

/** Changes are collected this long, ms; the first of a burst is sent immediately. */
const BATCH_INTERVAL = 20;

/**
 * Keeps one node's assignment current over its stream: a snapshot, then deltas. Between two messages only the keys of
 * changes are kept, so a slow node costs little memory and receives the newest values as soon as it reads on.
 */
export interface SessionFeed {
  onAssignmentChanges(effects: AssignmentChanges): void;
  stop(): void;
}

/** The whole assignment of a node as it is now. */
export function fullAssignment(node: Node, index: ClusterIndex, table: PortTable): Assignment {
  const view = { ...index, services: () => [], service: index.serviceOrRemoved };
  return { ...assignment(node, view), ports: table.ports(node) };
}

export function createSessionFeed(
  nodeId: string,
  stream: Duplex<AgentMessage, ManagerMessage>,
  index: ClusterIndex,
  table: PortTable,
  clock: Clock,
): SessionFeed {
  const peers = new Set<string>();
  const ports = new Set<string>();
  const tasks = new Set<string>();
  let needsSnapshot = true;
  let needsAck = false;
  let sentRevision = 0;
  let sending = false;
  let stopped = false;
  let lastSentAt = Number.NEGATIVE_INFINITY;
  let cancelTimer: (() => void) | undefined;

  function snapshot(): ManagerMessage['message'] {
    const node = index.node(nodeId);
    if (node === undefined) return undefined;
    for (const set of [peers, ports, tasks]) set.clear();
    needsSnapshot = false;
    needsAck = false;
    const value = fullAssignment(node, index, table);
    sentRevision = value.revision;
    return { case: 'snapshot', value };
  }

  function delta(): ManagerMessage['message'] {
    const node = index.node(nodeId);
    const value: AssignmentDelta = {
      base: sentRevision,
      revision: index.revision,
      peers: [],
      ports: [],
      tasks: [],
      removedPeers: [],
      removedPorts: [],
      removedTasks: [],
    };
    for (const id of peers) {
      const other = index.node(id);
      if (other === undefined) value.removedPeers.push(id);
      else if (id !== nodeId) value.peers.push(peer(other, index.networks));
    }
    for (const key of ports) {
      const port = node && table.port(node, key);
      if (port === undefined) value.removedPorts.push(key);
      else value.ports.push(port);
    }
    for (const id of tasks) {
      const task = index.task(id);
      const assigned =
        task?.nodeId === nodeId ? nodeTask(task, index.serviceOrRemoved(task.serviceId), index) : undefined;
      if (assigned === undefined) value.removedTasks.push(id);
      else value.tasks.push(assigned);
    }
    for (const set of [peers, ports, tasks]) set.clear();
    const isEmpty = isEmptyDelta(value) && !needsAck;
    needsAck = false;
    if (isEmpty || value.revision === sentRevision) return undefined;
    sentRevision = value.revision;
    return { case: 'delta', value };
  }

  function flush(): void {
    cancelTimer = undefined;
    if (stopped || sending) return;
    const message = needsSnapshot ? snapshot() : delta();
    lastSentAt = clock.monotonic();
    if (message === undefined) return;
    sending = true;
    void stream.send({ message }).then(() => {
      sending = false;
      if (needsSnapshot || needsAck || peers.size + ports.size + tasks.size > 0) schedule();
    });
  }

  function schedule(): void {
    if (stopped || sending || cancelTimer !== undefined) return;
    const wait = lastSentAt + BATCH_INTERVAL - clock.monotonic();
    if (wait > 0) {
      cancelTimer = clock.after(wait, flush);
      return;
    }
    const immediate = setImmediate(flush);
    cancelTimer = () => clearImmediate(immediate);
  }

  schedule();
  return {
    onAssignmentChanges(changes) {
      if (changes.snapshotNodes === 'all' || changes.snapshotNodes.has(nodeId)) needsSnapshot = true;
      for (const id of changes.peers) peers.add(id);
      for (const [key, nodes] of changes.ports) if (nodes === 'all' || nodes.has(nodeId)) ports.add(key);
      for (const id of changes.tasks.get(nodeId) ?? []) tasks.add(id);
      if (changes.ackRequired) needsAck = true;
      if (needsSnapshot || needsAck || peers.size + ports.size + tasks.size > 0) schedule();
    },
    stop() {
      stopped = true;
      cancelTimer?.();
    },
  };
}
