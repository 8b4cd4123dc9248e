import { readFileSync } from 'node:fs';
import type { Actor } from '../kernel.ts';

/** Greater numbers are given to the further sockets of a process (netlink_autobind) and are no process ids. */
const MAX_PID = 4 * 1024 * 1024;

/**
 * The process whose request caused an rtnetlink event, from the event's nlmsg_pid: the number of the sender's socket,
 * which for its first socket is its process id. Undefined when that is no process id, or is ours. Tools like `ip` end
 * within a millisecond, so the name is often unavailable; events about links (before Linux 6.2) and FDB entries have none.
 */
export function actorFromPortId(portId: number): Actor | undefined {
  if (portId <= 0 || portId > MAX_PID || portId === process.pid) return undefined;
  try {
    return { pid: portId, name: readFileSync(`/proc/${portId}/comm`, 'utf8').trim() };
  } catch {
    return { pid: portId };
  }
}

/** `ip (pid 4711)`. */
export function formatActor({ pid, name }: Actor): string {
  return name === undefined ? `pid ${pid}` : `${name} (pid ${pid})`;
}
