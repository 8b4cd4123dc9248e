import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { processStartTime } from '../kernel/host/process.ts';
import { lockStateDir } from './state-lock.ts';

let stateDir: string;
beforeEach(() => {
  stateDir = mkdtempSync(join(tmpdir(), 'lock-'));
});
afterEach(() => rmSync(stateDir, { recursive: true, force: true }));

const lock = () => lockStateDir(stateDir, processStartTime);
const path = () => join(stateDir, 'lock');

it('is held by one process, named to the second, and free after release', () => {
  const first = lock();
  expect(lock).toThrow(new RegExp(`another meshd \\(process ${process.pid}\\) uses ${stateDir}`));
  first.release();
  expect(existsSync(path())).toBe(false);
  lock();
  expect(readdirSync(stateDir)).toEqual(['lock']);
});

it('is taken over from a process that was killed, even a zombie', async () => {
  const child = spawn('sleep', ['60']);
  const holder = { pid: child.pid!, startTime: processStartTime(child.pid!)!, bootId: bootId() };
  writeFileSync(path(), JSON.stringify(holder));
  expect(lock).toThrow(/another meshd/);
  child.kill('SIGKILL');
  await once(child, 'exit');
  lock();
});

it('is taken over when the pid belongs to another process, or to another boot', () => {
  writeFileSync(path(), JSON.stringify({ pid: process.pid, startTime: 1, bootId: bootId() }));
  lock().release();
  writeFileSync(path(), JSON.stringify({ pid: process.pid, startTime: processStartTime(process.pid), bootId: 'old' }));
  lock().release();
  writeFileSync(path(), 'cut sho');
  lock().release();
});

it('reports what to do when the directory cannot be used', () => {
  writeFileSync(join(stateDir, 'file'), '');
  expect(() => lockStateDir(join(stateDir, 'file'), processStartTime)).toThrow(/give another --state-dir/);
  expect(() => lockStateDir('/proc/no/such', processStartTime)).toThrow(/give another --state-dir/);
});

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
}
