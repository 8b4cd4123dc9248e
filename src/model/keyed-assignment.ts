import { err, MeshError, ok, type Result } from '../base/errors.ts';
import type { AssignedPort, AssignedTask, Assignment, AssignmentDelta, Peer } from './assignment.ts';
import { portKey } from './spec.ts';

/**
 * An assignment that is updated by deltas: its parts are found by key and changed in place, so the cost of an update
 * depends on the delta, not on the size of the assignment. The order of the lists is kept.
 */
export interface KeyedAssignment extends Pick<Assignment, 'revision' | 'self' | 'networks'> {
  /** By nodeId. */
  peers: Map<string, Peer>;
  /** By portKey. */
  ports: Map<string, AssignedPort>;
  /** By task id. */
  tasks: Map<string, AssignedTask>;
}

export function keyedAssignment({ peers, ports, tasks, ...rest }: Assignment): KeyedAssignment {
  return {
    ...rest,
    peers: new Map(peers.map((peer) => [peer.nodeId, peer])),
    ports: new Map(ports.map((port) => [portKey(port), port])),
    tasks: new Map(tasks.map((task) => [task.id, task])),
  };
}

export function toAssignment({ peers, ports, tasks, ...rest }: KeyedAssignment): Assignment {
  return { ...rest, peers: [...peers.values()], ports: [...ports.values()], tasks: [...tasks.values()] };
}

/**
 * Applies a delta to an assignment. Changed entries keep their place in the lists, new ones are added at the end. Rejects
 * a delta for another revision without changing anything; the sender must then send a whole assignment.
 */
export function applyDelta(assignment: KeyedAssignment, delta: AssignmentDelta): Result<void> {
  if (delta.base !== assignment.revision) {
    return err(
      new MeshError(
        'conflict',
        `delta fits on revision ${delta.base}, this node has ${assignment.revision}: ask the manager for a snapshot`,
        { retry: true },
      ),
    );
  }
  assignment.revision = delta.revision;
  // A key that is both removed and set is a new entry: removals are applied first.
  for (const nodeId of delta.removedPeers) assignment.peers.delete(nodeId);
  for (const peer of delta.peers) assignment.peers.set(peer.nodeId, peer);
  for (const key of delta.removedPorts) assignment.ports.delete(key);
  for (const port of delta.ports) assignment.ports.set(portKey(port), port);
  for (const id of delta.removedTasks) assignment.tasks.delete(id);
  for (const task of delta.tasks) assignment.tasks.set(task.id, task);
  return ok(undefined);
}
