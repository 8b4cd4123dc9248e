import { linkSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError, messageOf } from '../base/errors.ts';
import { checkDirectory } from './check-directory.ts';
import { makeDirectory } from './make-directory.ts';

export interface StateLock {
  release(): void;
}

/** The process that holds a lock; start time and boot distinguish it from a later one with the same pid. */
interface Holder {
  pid: number;
  startTime: number;
  bootId: string;
}

/**
 * One meshd per state directory. A lock whose holder has died (kill -9, power cut) is taken over. Throws MeshError
 * `conflict` naming the holder, `permission` or `exhausted` when the directory cannot be used or
 * other users can change it.
 */
export function lockStateDir(stateDir: string, startTimeOf: (pid: number) => number | undefined): StateLock {
  const path = join(stateDir, 'lock');
  const ownPath = join(stateDir, `lock.${process.pid}`);
  const bootId = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const self: Holder = { pid: process.pid, startTime: startTimeOf(process.pid) ?? 0, bootId };
  try {
    makeDirectory(stateDir, 0o700);
    checkDirectory(stateDir);
    writeFileSync(ownPath, JSON.stringify(self), { mode: 0o600 });
  } catch (thrown) {
    if (thrown instanceof MeshError) throw thrown;
    const { code } = thrown as NodeJS.ErrnoException;
    throw new MeshError(
      code === 'ENOSPC' || code === 'EDQUOT' ? 'exhausted' : 'permission',
      `cannot use the state directory ${stateDir}: ${messageOf(thrown)}; make room, make it writable, or give another --state-dir`,
      { cause: thrown },
    );
  }
  try {
    for (let attempt = 0; attempt < 3; attempt++) {
      if (tryLink(ownPath, path)) return { release: () => releaseIfOwned(path, self) };
      const holder = readHolder(path);
      if (holder !== undefined && holder.bootId === bootId && isAlive(holder, startTimeOf)) {
        throw new MeshError(
          'conflict',
          `another meshd (process ${holder.pid}) uses ${stateDir}: stop it, or give this one another --state-dir and --socket`,
        );
      }
      removeStaleLock(path, holder);
    }
  } finally {
    rmSync(ownPath, { force: true });
  }
  throw new MeshError('conflict', `another meshd is just starting on ${stateDir}`);
}

/** link(2) is atomic: it succeeds for one process only. */
function tryLink(from: string, to: string): boolean {
  try {
    linkSync(from, to);
    return true;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw new MeshError('permission', `cannot lock the state directory: ${messageOf(thrown)}`, { cause: thrown });
  }
}

/** Moves a stale lock away; if a live one replaced it in between, that one is restored. */
function removeStaleLock(path: string, staleHolder: Holder | undefined): void {
  const stalePath = `${path}.dead.${process.pid}`;
  try {
    renameSync(path, stalePath);
  } catch {
    return; // another process removed it
  }
  if (JSON.stringify(readHolder(stalePath)) !== JSON.stringify(staleHolder)) tryLink(stalePath, path);
  unlinkSync(stalePath);
}

function readHolder(path: string): Holder | undefined {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

function isAlive({ pid, startTime }: Holder, startTimeOf: (pid: number) => number | undefined): boolean {
  if (startTimeOf(pid) !== startTime) return false;
  try {
    // Killed and not yet reaped by its parent: it no longer holds the lock.
    return !/^State:\s*[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}

function releaseIfOwned(path: string, self: Holder): void {
  if (JSON.stringify(readHolder(path)) === JSON.stringify(self)) rmSync(path, { force: true });
}
