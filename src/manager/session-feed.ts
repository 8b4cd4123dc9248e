import type { Clock } from '../base/clock.ts';
import { assignment, nodeTask, peer } from '../decide/assign.ts';
import type { Assignment, AssignmentDelta } from '../model/assignment.ts';
import { isEmptyDelta } from '../model/assignment-delta.ts';
import type { Node } from '../model/cluster.ts';
import { assignmentToWire, deltaToWire } from '../rpc/convert-assignment.ts';
import type { AgentMessage, ManagerMessage } from '../rpc/gen/mesh.ts';
import type { Duplex } from '../rpc/stream.ts';
import type { ClusterIndex } from './cluster-index.ts';
import type { Effects } from './effects.ts';
import type { PortTable } from './port-table.ts';

/** Changes are gathered this long, ms; the first of a burst leaves at once. */
const GATHER = 20;

/**
 * Keeps one node's assignment current over its stream: a snapshot, then what changed since. Only keys are remembered
 * between two messages, so a slow node costs no memory and gets the newest values when it can take them.
 */
export interface SessionFeed {
  onEffects(effects: Effects): void;
  stop(): void;
}

/** The whole assignment of a node as it is now. */
export function wholeAssignment(node: Node, index: ClusterIndex, table: PortTable): Assignment {
  const view = { ...index, services: () => [], service: index.declared };
  return { ...assignment(node, view), ports: table.allOn(node) };
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
  let whole = true;
  let acknowledge = false;
  let sent = 0;
  let sending = false;
  let stopped = false;
  let last = Number.NEGATIVE_INFINITY;
  let cancel: (() => void) | undefined;

  function snapshot(): ManagerMessage['message'] {
    const node = index.node(nodeId);
    if (node === undefined) return undefined;
    for (const set of [peers, ports, tasks]) set.clear();
    whole = false;
    acknowledge = false;
    const value = wholeAssignment(node, index, table);
    sent = value.revision;
    return { $case: 'snapshot', value: assignmentToWire(value) };
  }

  function delta(): ManagerMessage['message'] {
    const node = index.node(nodeId);
    const value: AssignmentDelta = {
      base: sent,
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
      const port = node && table.on(node, key);
      if (port === undefined) value.removedPorts.push(key);
      else value.ports.push(port);
    }
    for (const id of tasks) {
      const task = index.task(id);
      const wanted = task?.nodeId === nodeId ? nodeTask(task, index.declared(task.serviceId)) : undefined;
      if (wanted === undefined) value.removedTasks.push(id);
      else value.tasks.push(wanted);
    }
    for (const set of [peers, ports, tasks]) set.clear();
    const idle = isEmptyDelta(value) && !acknowledge;
    acknowledge = false;
    if (idle || value.revision === sent) return undefined;
    sent = value.revision;
    return { $case: 'delta', value: deltaToWire(value) };
  }

  function flush(): void {
    cancel = undefined;
    if (stopped || sending) return;
    const message = whole ? snapshot() : delta();
    last = clock.monotonic();
    if (message === undefined) return;
    sending = true;
    void stream.send({ message }).then(() => {
      sending = false;
      if (whole || acknowledge || peers.size + ports.size + tasks.size > 0) schedule();
    });
  }

  function schedule(): void {
    if (stopped || sending || cancel !== undefined) return;
    const wait = last + GATHER - clock.monotonic();
    if (wait > 0) {
      cancel = clock.after(wait, flush);
      return;
    }
    const immediate = setImmediate(flush);
    cancel = () => clearImmediate(immediate);
  }

  schedule();
  return {
    onEffects(effects) {
      if (effects.whole === 'all' || effects.whole.has(nodeId)) whole = true;
      for (const id of effects.peers) peers.add(id);
      for (const [key, nodes] of effects.ports) if (nodes === 'all' || nodes.has(nodeId)) ports.add(key);
      for (const id of effects.tasks.get(nodeId) ?? []) tasks.add(id);
      if (effects.acknowledge) acknowledge = true;
      if (whole || acknowledge || peers.size + ports.size + tasks.size > 0) schedule();
    },
    stop() {
      stopped = true;
      cancel?.();
    },
  };
}
