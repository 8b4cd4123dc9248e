import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { anyAssignment, threeNodes } from '../plan/assignments.test-data.ts';
import type { Assignment } from './assignment.ts';
import { applyAssignmentDelta, assignmentDelta, isEmptyDelta } from './assignment-delta.ts';
import { portKey } from './spec.ts';

/** Lists are sets of keyed things: their order carries no meaning. */
function sorted(assignment: Assignment) {
  const by = <T>(items: readonly T[], key: (item: T) => string) =>
    [...items].sort((a, b) => (key(a) < key(b) ? -1 : 1));
  return {
    ...assignment,
    peers: by(assignment.peers, (peer) => peer.nodeId),
    ports: by(assignment.ports, portKey),
    tasks: by(assignment.tasks, (task) => task.id),
  };
}

describe('assignment delta', () => {
  it('turns the old assignment into the new one', () => {
    fc.assert(
      fc.property(anyAssignment(['inet']), anyAssignment(['inet']), (before, after) => {
        const kept = structuredClone(before);
        const result = applyAssignmentDelta(before, assignmentDelta(before, after)!);
        expect(result.ok && sorted(result.value)).toEqual(sorted(after));
        expect(before).toEqual(kept);
      }),
    );
  });

  it('between equal assignments is empty, for any order of lists and fields', () => {
    const before = threeNodes(['inet', 'inet6']);
    const { revision, ...rest } = before;
    const after = { ...rest, peers: [...before.peers].reverse(), revision: revision + 1 };
    expect(isEmptyDelta(assignmentDelta(before, after)!)).toBe(true);
    expect(isEmptyDelta(assignmentDelta(before, { ...after, tasks: [] })!)).toBe(false);
  });

  it('is rejected for another revision', () => {
    const before = threeNodes(['inet']);
    const delta = assignmentDelta(before, { ...before, revision: 9 })!;
    const result = applyAssignmentDelta({ ...before, revision: 7 }, delta);
    expect(result.ok ? '' : `${result.error.code}: ${result.error.message}`).toBe(
      'conflict: delta fits on revision 1, this node has 7: ask the manager for a snapshot',
    );
  });

  it('cannot express changes of the node itself or its networks', () => {
    const before = threeNodes(['inet']);
    expect(assignmentDelta(before, { ...before, networks: [] })).toBeUndefined();
    expect(assignmentDelta(before, { ...before, self: { ...before.self, underlay: '192.0.2.99' } })).toBeUndefined();
  });
});
