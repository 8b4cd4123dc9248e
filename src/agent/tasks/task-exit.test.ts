import { expect, it } from 'vitest';
import type { TaskExit } from '../../runtime/runtime.ts';
import { extraTask } from '../agent.test-data.ts';
import { statusFromExit } from './task-exit.ts';

const statusOf = (exit: Omit<TaskExit, 'at'>, stopped = false) =>
  statusFromExit(
    { state: 'ended', task: extraTask(1), exit: { ...exit, at: 5 }, stopRequested: false },
    stopped,
    10_000,
  );

it.each([
  [{ code: 0 }, { state: 'complete', reason: 'Exited', message: 'exit code 0', error: '' }],
  [
    { code: 0, left: 'nginx' },
    {
      state: 'complete',
      reason: 'Daemonized',
      message: 'exit code 0, but left nginx behind, which was killed: run it in the foreground',
      error: '',
    },
  ],
  [{ code: 3 }, { state: 'failed', reason: 'Exited', message: '', error: 'exit code 3' }],
  [{ signal: 'SIGSEGV' }, { state: 'failed', reason: 'Killed', error: 'killed by SIGSEGV' }],
  [{ error: 'exec: x: No such file' }, { state: 'failed', reason: 'StartFailed', error: 'exec: x: No such file' }],
])('%j is %j', (exit, status) => {
  expect(statusOf(exit)).toMatchObject(status);
});

it('is no surprise when the task was stopped', () => {
  expect(statusOf({ code: 0, left: 'worker' }, true)).toMatchObject({ state: 'shutdown', message: 'exit code 0' });
});
