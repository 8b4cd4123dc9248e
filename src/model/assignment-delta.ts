import { ok, type Result } from '../base/errors.ts';
import type { Assignment, AssignmentDelta } from './assignment.ts';
import { sameValue } from './equality.ts';
import { applyDelta, keyedAssignment, toAssignment } from './keyed-assignment.ts';
import { portKey } from './spec.ts';

/**
 * The changes from one assignment of a node to a later one. Undefined if a delta cannot express them, because the node
 * itself or its networks changed: send the whole assignment.
 */
export function assignmentDelta(before: Assignment, after: Assignment): AssignmentDelta | undefined {
  if (!sameValue(before.self, after.self) || !sameValue(before.networks, after.networks)) return undefined;
  const peers = changedItems(before.peers, after.peers, (peer) => peer.nodeId);
  const ports = changedItems(before.ports, after.ports, portKey);
  const tasks = changedItems(before.tasks, after.tasks, (task) => task.id);
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

/** The assignment after a delta; see changeAssignment. */
export function applyAssignmentDelta(before: Assignment, delta: AssignmentDelta): Result<Assignment> {
  const after = keyedAssignment(before);
  const done = applyDelta(after, delta);
  return done.ok ? ok(toAssignment(after)) : done;
}

function changedItems<T>(before: readonly T[], after: readonly T[], keyOf: (item: T) => string) {
  const old = new Map(before.map((item) => [keyOf(item), item]));
  const changed: T[] = [];
  for (const item of after) {
    const key = keyOf(item);
    const previous = old.get(key);
    if (previous === undefined || !sameValue(previous, item)) changed.push(item);
    old.delete(key);
  }
  return { changed, removed: [...old.keys()] };
}
