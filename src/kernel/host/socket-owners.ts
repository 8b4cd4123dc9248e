import { readdirSync, readFileSync, readlinkSync, statSync } from 'node:fs';
import { dirname } from 'node:path';
import { setImmediate } from 'node:timers/promises';
import type { SocketOwner } from '../kernel.ts';

/** Every process shows what it has open as symbolic links `socket:[INODE]` (Documentation/filesystems/proc.rst). */
const SOCKET = /^socket:\[(\d+)\]$/;
/** systemd has the sockets of its socket units open beside the program that serves them. */
const INIT_PID = 1;
/** Links read without a pause: under a millisecond. */
const MAX_READS_PER_TURN = 200;
/** Attempts to find the owner of a socket: its process may be hidden, or about to accept it from another. */
const MAX_TRIES = 3;

/** Finds the owners of sockets; reads /proc only when there is one whose owner is not known. */
export function createSocketOwnerLookup(): (inodes: ReadonlySet<number>) => Promise<Map<number, SocketOwner>> {
  let previous = new Map<number, SocketOwner>();
  const tries = new Map<number, number>();
  return async (inodes) => {
    const owners = new Map<number, SocketOwner>();
    for (const inode of inodes) {
      const pid = previous.get(inode)?.pid;
      const owner = pid === undefined ? undefined : readOwner(pid);
      if (owner !== undefined) owners.set(inode, owner);
    }
    for (const inode of tries.keys()) if (!inodes.has(inode)) tries.delete(inode);
    const missing = new Set([...inodes].filter((inode) => !owners.has(inode) && (tries.get(inode) ?? 0) < MAX_TRIES));
    for (const inode of missing) tries.set(inode, (tries.get(inode) ?? 0) + 1);
    for (const [inode, owner] of await scanProcesses(missing)) owners.set(inode, owner);
    previous = owners;
    return new Map(owners);
  };
}

/** Process 1 is checked last, and counts only if no other process has the socket. */
async function scanProcesses(inodes: ReadonlySet<number>): Promise<Map<number, SocketOwner>> {
  const owners = new Map<number, SocketOwner>();
  const remaining = new Set(inodes);
  const pids = remaining.size === 0 ? [] : listDirectory('/proc').filter((name) => /^\d+$/.test(name));
  let read = 0;
  for (const pid of [...pids.map(Number).filter((pid) => pid !== INIT_PID), INIT_PID]) {
    if (remaining.size === 0) break;
    const descriptors = listDirectory(`/proc/${pid}/fd`);
    read += descriptors.length + 1;
    for (const inode of new Set(descriptors.map((name) => inodeOf(`/proc/${pid}/fd/${name}`)))) {
      const owner = remaining.has(inode) ? readOwner(pid) : undefined;
      if (owner === undefined) continue;
      owners.set(inode, owner);
      remaining.delete(inode);
    }
    if (read < MAX_READS_PER_TURN) continue;
    read = 0;
    await setImmediate();
  }
  return owners;
}

/** Empty for processes that ended meanwhile or that a container's /proc hides. */
function listDirectory(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    return [];
  }
}

/** 0 for a file that is not a socket. */
function inodeOf(link: string): number {
  try {
    return Number(SOCKET.exec(readlinkSync(link))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Undefined when the process has ended. */
function readOwner(pid: number): SocketOwner | undefined {
  try {
    const process = readFileSync(`/proc/${pid}/comm`, 'utf8').trim();
    // Uid: real, effective, saved, filesystem.
    const uid = /^Uid:\s+\d+\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return { pid, process, ...(uid === undefined ? {} : { uid: Number(uid) }), ...executableOf(pid) };
  } catch {
    return undefined;
  }
}

/** The kernel's addition to the path of a file that was removed, as an upgrade removes the one of a running program. */
const DELETED = ' (deleted)';

function executableOf(pid: number): Pick<SocketOwner, 'executable'> {
  try {
    const link = readlinkSync(`/proc/${pid}/exe`);
    const executable = link.endsWith(DELETED) ? link.slice(0, -DELETED.length) : link;
    // The running file, by its inode, and the one at its path now.
    const safe = isRootsOwn(`/proc/${pid}/exe`) && withParents(executable).every(isRootsOwn);
    return safe ? { executable } : {};
  } catch {
    return {}; // a kernel thread has none, and another namespace may hide it
  }
}

function withParents(path: string): string[] {
  const parent = dirname(path);
  return parent === path ? [path] : [path, ...withParents(parent)];
}

/** Throws when there is no such file. */
function isRootsOwn(path: string): boolean {
  const { uid, mode } = statSync(path);
  return uid === 0 && (mode & 0o022) === 0;
}
