import { chmodSync, chownSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkDirectory } from './check-directory.ts';
import { lockStateDir } from './state-lock.ts';

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'directory-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

test('a directory of another user is rejected, also for persistent state', () => {
  checkDirectory(directory);
  chownSync(directory, 65_534, 65_534);
  expect(() => checkDirectory(directory)).toThrow(`${directory} belongs to user 65534: change its owner`);
  expect(() => lockStateDir(directory, () => 1)).toThrow(`${directory} belongs to user 65534`);
});

test.each([0o775, 0o757, 0o1777])('a directory of mode %o is rejected, also for persistent state', (mode) => {
  chmodSync(directory, mode);
  expect(() => checkDirectory(directory)).toThrow(`${directory} can be changed by other users: run chmod go-w`);
  expect(() => lockStateDir(directory, () => 1)).toThrow(`${directory} can be changed by other users`);
});

test('sockets may be in a directory where others can create files but not replace ours', () => {
  chmodSync(directory, 0o1777);
  checkDirectory(directory, { sticky: true });
  chmodSync(directory, 0o777);
  expect(() => checkDirectory(directory, { sticky: true })).toThrow(/can be changed by other users/);
});
