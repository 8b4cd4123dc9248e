import { describe, expect, it } from 'vitest';
import { INITIAL_SOURCE, nextSource, type SourceEffect, type SourceEvent } from './assignment-source.ts';

function play(...events: SourceEvent[]) {
  let state = INITIAL_SOURCE;
  const effects: SourceEffect[] = [];
  for (const event of events) {
    const next = nextSource(state, event);
    state = next.state;
    effects.push(...next.effects);
  }
  return { ...state, effects };
}
const unreachable = (waited: number): SourceEvent => ({ kind: 'unreachable', waited });

describe('the source of the assignment', () => {
  it('changes nothing without an assignment, as long as no manager is reachable', () => {
    expect(play(unreachable(60_000))).toEqual({ source: 'none', revision: 0, effects: [] });
  });

  it('is the disk only after the timeout, and once', () => {
    const loaded = { kind: 'loaded', revision: 41 } as const;
    expect(play(loaded, unreachable(4_999))).toEqual({ source: 'saved', revision: 41, effects: [] });
    expect(play(loaded, unreachable(5_000), unreachable(9_000))).toEqual({
      source: 'disk',
      revision: 41,
      effects: [{ kind: 'logSavedAssignment', revision: 41 }, { kind: 'startReconciling' }],
    });
  });

  it('is the manager from its first snapshot on, also when it becomes unreachable again', () => {
    const events = [{ kind: 'loaded', revision: 41 }, { kind: 'snapshot', revision: 42 }, unreachable(60_000)] as const;
    expect(play(...events)).toEqual({ source: 'manager', revision: 42, effects: [{ kind: 'startReconciling' }] });
  });

  it('reports a rolled back store, but only against what a manager sent before', () => {
    const older = { kind: 'snapshot', revision: 20 } as const;
    expect(play({ kind: 'loaded', revision: 50 }, older).effects).toEqual([{ kind: 'startReconciling' }]);
    const rolledBack = play({ kind: 'snapshot', revision: 49 }, { kind: 'delta', revision: 50 }, older);
    expect(rolledBack).toMatchObject({ source: 'manager', revision: 20 });
    expect(rolledBack.effects).toContainEqual({ kind: 'logRollback', revision: 50, managerRevision: 20 });
  });
});
