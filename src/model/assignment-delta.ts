import { err, MeshError, ok, type Result } from '../base/errors.ts';
import type { Assignment, AssignmentDelta } from './assignment.ts';
import { sameValue } from './equality.ts';
import { portKey } from './spec.ts';

/**
 * What leads from one assignment of a node to a later one. Undefined when a delta cannot say it, because the node
 * itself or its networks changed: send the whole assignment.
 */
export function assignmentDelta(before: Assignment, after: Assignment): AssignmentDelta | undefined {
  if (!sameValue(before.self, after.self) || !sameValue(before.networks, after.networks)) return undefined;
  const peers = changes(before.peers, after.peers, (peer) => peer.nodeId);
  const ports = changes(before.ports, after.ports, portKey);
  const tasks = changes(before.tasks, after.tasks, (task) => task.id);
  return {
    base: before.revision,
    revision: after.revision,
    peers: peers.changed,
    ports: ports.changed,
    tasks: tasks.changed,
    removedPeers: peers.removed,
    removedPorts: ports.removed,
    removedTasks: tasks.removed,
  };
}

/** Whether a delta changes nothing but the revision. */
export function isEmptyDelta(delta: AssignmentDelta): boolean {
  return (
    delta.peers.length === 0 &&
    delta.ports.length === 0 &&
    delta.tasks.length === 0 &&
    delta.removedPeers.length === 0 &&
    delta.removedPorts.length === 0 &&
    delta.removedTasks.length === 0
  );
}

/**
 * The assignment after a delta. What changed keeps its place in the lists, what is new comes last. Refuses a delta
 * that was made for another revision; the remedy is a whole assignment.
 */
export function applyAssignmentDelta(before: Assignment, delta: AssignmentDelta): Result<Assignment> {
  if (delta.base !== before.revision) {
    return err(
      new MeshError(
        'conflict',
        `delta fits on revision ${delta.base}, this node has ${before.revision}: ask the manager for a snapshot`,
        { retry: true },
      ),
    );
  }
  return ok({
    ...before,
    revision: delta.revision,
    peers: merged(before.peers, delta.peers, delta.removedPeers, (peer) => peer.nodeId),
    ports: merged(before.ports, delta.ports, delta.removedPorts, portKey),
    tasks: merged(before.tasks, delta.tasks, delta.removedTasks, (task) => task.id),
  });
}

function changes<T>(before: readonly T[], after: readonly T[], keyOf: (item: T) => string) {
  const old = new Map(before.map((item) => [keyOf(item), item]));
  const changed: T[] = [];
  for (const item of after) {
    const key = keyOf(item);
    const known = old.get(key);
    if (known === undefined || !sameValue(known, item)) changed.push(item);
    old.delete(key);
  }
  return { changed, removed: [...old.keys()] };
}

function merged<T>(
  before: readonly T[],
  changed: readonly T[],
  removed: readonly string[],
  keyOf: (item: T) => string,
): T[] {
  if (changed.length === 0 && removed.length === 0) return [...before];
  const items = new Map(before.map((item) => [keyOf(item), item]));
  // A key both removed and given is a new value: removal comes first.
  for (const key of removed) items.delete(key);
  for (const item of changed) items.set(keyOf(item), item);
  return [...items.values()];
}
