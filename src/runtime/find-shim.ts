import { readdirSync, readFileSync } from 'node:fs';
import type { ProcessId } from './task-dir.ts';

/**
 * Finds the shim of a task's directory by its command line; needed if the agent crashed between starting the shim and
 * writing `shim.json`.
 */
export function findShim(
  dir: string,
  shimPath: string,
  startTimeOf: (pid: number) => number | undefined,
): ProcessId | undefined {
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const args = commandLine(entry);
    if (args[0] !== shimPath || args[args.indexOf('--dir') + 1] !== dir) continue;
    const pid = Number(entry);
    // A child between fork and exec has the same command line; the shim is, or becomes, a session leader.
    const startTime = startTimeOf(pid);
    if (startTime !== undefined && !isForkedShim(entry, shimPath)) return { pid, startTime };
  }
  return undefined;
}

function commandLine(pid: string): string[] {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
  } catch {
    return []; // ended meanwhile
  }
}

function isForkedShim(pid: string, shimPath: string): boolean {
  try {
    const parent = /^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return parent !== undefined && commandLine(parent)[0] === shimPath;
  } catch {
    return true;
  }
}
