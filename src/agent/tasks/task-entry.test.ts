import { describe, expect, it } from 'vitest';
import { extraTask } from '../agent.test-data.ts';
import { buildStatus, createEntry, nextAction, type TaskEntry } from './task-entry.ts';

const entry = (change: Partial<TaskEntry> = {}): TaskEntry => ({ ...createEntry(extraTask(1), true, 5), ...change });
const draining = { ...extraTask(1), desired: 'shutdown' as const };

describe('what a task needs next', () => {
  it.each<[string, Partial<TaskEntry>, ReturnType<typeof nextAction>]>([
    ['nothing while it should run', { phase: 'live' }, undefined],
    ['to be discarded when it was never started', { task: draining }, 'discard'],
    ['nothing while the runtime starts it', { task: draining, phase: 'launching' }, undefined],
    ['to be stopped', { task: draining, phase: 'live' }, 'stop'],
    ['nothing while it stops', { task: draining, phase: 'live', stopRequested: true }, undefined],
    ['to be stopped when it is no longer assigned', { assigned: false, phase: 'live' }, 'stop'],
    ['nothing while its paths are there', { assigned: false, phase: 'ended' }, undefined],
    ['to be removed', { assigned: false, phase: 'ended', exposed: false }, 'remove'],
    ['nothing while the manager keeps it', { task: draining, phase: 'ended', exposed: false }, undefined],
  ])('%s', (_, change, expected) => {
    expect(nextAction(entry(change))).toBe(expected);
  });
});

it('a status has no control characters, and keeps its time while the state stays', () => {
  const details = { reason: 'Unhealthy', message: '\u001b[2Jred\nline', since: 9 } as const;
  expect(buildStatus(entry(), 'starting', details, 7)).toEqual({
    state: 'starting',
    reason: 'Unhealthy',
    message: ' [2Jred line',
    error: '',
    since: 9,
  });
  expect(buildStatus(entry(), 'assigned', {}, 7)).toEqual({ state: 'assigned', message: '', error: '', since: 5 });
});
