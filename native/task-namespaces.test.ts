import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { taskShimPath } from './index.ts';
import { cleanUp, freshDirectory, freshNetns, run } from './test-support.ts';

const DEFAULT = 0xa00425fbn;
const SYS_ADMIN = 1n << 21n;

let program: string;
beforeAll(() => {
  program = join(freshDirectory(), 'namespaces');
  run('chmod', '755', join(program, '..'));
  run('cc', '-D_GNU_SOURCE', '-pthread', '-o', program, join(import.meta.dirname, 'test/namespaces.c'));
});
afterAll(cleanUp);

/** Results of native/test/namespaces.c in a task. */
async function attempts(...flags: string[]): Promise<Record<string, string>> {
  const directory = freshDirectory();
  const log = join(directory, 'log');
  const logFlags = ['--log', log, '--log-size', '1000000', '--log-files', '1'];
  const shim = spawn(
    taskShimPath(),
    ['--netns', freshNetns().path, '--dir', directory, ...logFlags, ...flags, '--', program],
    { detached: true, stdio: ['pipe', 'ignore', 'ignore'], env: {} },
  );
  shim.stdin.end();
  expect(await new Promise((resolve) => shim.on('close', resolve))).toBe(0);
  return Object.fromEntries(
    readFileSync(log, 'utf8')
      .trim()
      .split('\n')
      .map((line) => line.split(' ') as [string, string]),
  );
}

const capabilities = (set: bigint) => ['--capabilities', set.toString(16)];

it.each([
  ['root', []],
  ['another user', ['--user', 'nobody']],
])('a task of %s cannot create or enter namespaces, so it never gains the right to mount', async (_, flags) => {
  const { 'getppid-32': runs32, ...results } = await attempts(...capabilities(DEFAULT), ...flags);
  expect(results).toEqual({
    'unshare-user': 'EPERM',
    'unshare-user-mount': 'EPERM',
    'unshare-time': 'EPERM',
    'clone-user': 'EPERM',
    'clone3-user': 'ENOSYS', // as if the kernel had no clone3, so that the C library uses clone
    setns: 'EPERM',
    mount: 'EPERM',
    // Not every kernel runs 32-bit programs.
    ...(runs32 === 'ok' ? { 'unshare-user-32': 'EPERM', 'clone-user-32': 'EPERM' } : {}),
    'unshare-files': 'ok',
    fork: 'ok',
    thread: 'ok',
  });
});

it.each([
  ['with SYS_ADMIN', capabilities(DEFAULT | SYS_ADMIN)],
  ['that is privileged', [...capabilities(DEFAULT), '--new-privileges']],
])('a task %s can', async (_, flags) => {
  expect(await attempts(...flags)).toMatchObject({ 'unshare-user-mount': 'ok', 'clone3-user': 'ok' });
});
