import { readFileSync } from 'node:fs';
import { MeshError } from '../../base/errors.ts';
import type { Protocol } from '../../model/address.ts';
import type { AssignedPort, AssignedTask } from '../../model/assignment.ts';
import { type AllocatedPort, allocatePorts, type PortRange, portsInUse } from './allocate-ports.ts';

export interface PortAllocatorOptions {
  /** Sockets of the host that wait for clients. */
  listeners(): Promise<readonly { protocol: Protocol; port: number }[]>;
  assigned(): readonly AssignedPort[];
  /** What tasks have picked already. */
  allocated(): readonly AllocatedPort[];
}

export type PortAllocator = (task: AssignedTask, had: readonly AllocatedPort[]) => Promise<AllocatedPort[]>;

/**
 * Picks numbers for a task's host mode ports that have none; throws MeshError `exhausted` when all are taken. One task
 * after the other, so that each sees what the one before took.
 */
export function createPortAllocator({ listeners, assigned, allocated }: PortAllocatorOptions): PortAllocator {
  let queue: Promise<unknown> = Promise.resolve();
  return (task, had) => {
    const allocation = queue.then(async () => {
      const inUse = portsInUse(await listeners(), assigned(), allocated());
      const ports = allocatePorts(task.id, task.pick ?? [], had, inUse, readEphemeralRange());
      if (ports === undefined) throw new MeshError('exhausted', 'no port of this node is free for a host mode port');
      return ports;
    });
    queue = allocation.catch(() => {});
    return allocation;
  };
}

/** Where the kernel takes the ports of outgoing connections from, now; its default (net/ipv4/af_inet.c) when it does not tell. */
function readEphemeralRange(): PortRange {
  try {
    const [from, to] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/).map(Number);
    if (from !== undefined && to !== undefined) return { from, to };
  } catch {
    // procfs may not be mounted.
  }
  return { from: 32_768, to: 60_999 };
}
