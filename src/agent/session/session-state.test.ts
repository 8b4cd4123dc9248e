import { describe, expect, it } from 'vitest';
import {
  currentAddress,
  initialSession,
  nextSession,
  type SessionEffect,
  type SessionEvent,
  type SessionState,
} from './session-state.ts';

function play(addresses: string[], ...events: SessionEvent[]): { state: SessionState; effects: SessionEffect[] } {
  let state = initialSession(addresses);
  const effects: SessionEffect[] = [];
  for (const event of events) {
    const next = nextSession(state, event);
    state = next.state;
    effects.push(...next.effects);
  }
  return { state, effects };
}
const ended = (reason: string, jitter = 1): SessionEvent => ({ kind: 'ended', reason, jitter });
const kinds = (effects: readonly SessionEffect[]) => effects.map(({ kind }) => kind);

describe('the session', () => {
  it('tries every address before it reports that no manager is reachable', () => {
    const first = play(['a', 'b'], { kind: 'start' }, ended('refused'));
    expect(kinds(first.effects)).toEqual(['connect', 'logFailure', 'retryAfter']);
    const second = play(['a', 'b'], { kind: 'start' }, ended('refused'), { kind: 'retry' }, ended('timeout'));
    expect(second.effects.filter(({ kind }) => kind === 'connect')).toEqual([
      { kind: 'connect', address: 'a' },
      { kind: 'connect', address: 'b' },
    ]);
    expect(second.effects).toContainEqual({ kind: 'unreachable', reason: 'b: timeout' });
    expect(second.state).toMatchObject({ phase: 'backoff', attempt: 2 });
  });

  it('doubles the backoff once per round through all addresses, with jitter', () => {
    const failures = Array.from({ length: 4 }, () => [ended('x', 0), { kind: 'retry' } as const]).flat();
    const { effects } = play(['a', 'b'], { kind: 'start' }, ...failures);
    expect(effects.flatMap((effect) => (effect.kind === 'retryAfter' ? [effect.delay] : []))).toEqual([
      50, 50, 100, 100,
    ]);
    const long = Array.from({ length: 30 }, () => [ended('x'), { kind: 'retry' } as const]).flat();
    expect(play(['a'], { kind: 'start' }, ...long).effects.at(-2)).toEqual({ kind: 'retryAfter', delay: 5_000 });
  });

  it('begins anew after a welcome, and marks a repeated reason', () => {
    const { state, effects } = play(
      ['a'],
      { kind: 'start' },
      ended('refused'),
      { kind: 'retry' },
      ended('refused'),
      { kind: 'retry' },
      { kind: 'welcomed' },
      ended('refused'),
    );
    expect(effects.flatMap((effect) => (effect.kind === 'logFailure' ? [effect.repeated] : []))).toEqual([
      false,
      true,
      false,
    ]);
    expect(state.attempt).toBe(1);
  });

  it('stays with a manager that has welcomed it, also to reconnect', () => {
    const events: SessionEvent[] = [{ kind: 'start' }, ended('refused'), { kind: 'retry' }, { kind: 'welcomed' }];
    const established = play(['a', 'b'], ...events).state;
    expect([established.phase, currentAddress(established)]).toEqual(['established', 'b']);
    const again = play(['a', 'b'], ...events, ended('reset'), { kind: 'retry' });
    expect(again.effects.at(-1)).toEqual({ kind: 'connect', address: 'b' });
  });

  it('does nothing more once it is stopped', () => {
    const { state, effects } = play(['a'], { kind: 'start' }, { kind: 'stop' }, ended('stopped'), { kind: 'retry' });
    expect(state.phase).toBe('stopped');
    expect(kinds(effects)).toEqual(['connect', 'disconnect']);
  });
});
