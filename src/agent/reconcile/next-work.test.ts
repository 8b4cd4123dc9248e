import { expect, it } from 'vitest';
import { nextWork, type PendingWork } from './next-work.ts';

const none: PendingWork = { phase: 'active', fullPass: false, changes: false, scopes: 0, reads: 0 };
const everything: PendingWork = { phase: 'active', fullPass: true, changes: true, scopes: 1, reads: 1 };

it.each<[string, Partial<PendingWork>, ReturnType<typeof nextWork>]>([
  ['a full pass before everything', {}, 'full'],
  ['desired changes before repairs', { fullPass: false }, 'changes'],
  ['repairs before reads', { fullPass: false, changes: false }, 'scope'],
  ['reads when there are many', { fullPass: false, changes: false, reads: 9 }, 'read'],
  ['reads when there is nothing to repair', { fullPass: false, changes: false, scopes: 0 }, 'read'],
  ['only reads before there is an assignment', { phase: 'paused' }, 'read'],
  ['nothing but reads before there is an assignment', { phase: 'paused', reads: 0 }, undefined],
  ['a full pass after a failed one', { phase: 'unknown' }, 'full'],
  ['no change on an unknown state', { phase: 'unknown', fullPass: false, reads: 0 }, undefined],
  ['nothing once stopped', { phase: 'stopped' }, undefined],
])('%s', (_, change, expected) => {
  expect(nextWork({ ...everything, ...change })).toBe(expected);
});

it('rests when there is nothing to do', () => {
  expect(nextWork(none)).toBeUndefined();
});
