import { MeshError } from '../../base/errors.ts';
import type { Protocol } from '../../model/address.ts';
import type { AssignedPort, AssignedTask } from '../../model/assignment.ts';
import { type AllocatedPort, allocatePorts, portsInUse } from './allocate-ports.ts';
import { readEphemeralRange } from './ephemeral-ports.ts';

export interface PortAllocatorOptions {
  /** Listening sockets of the host. */
  listeners(): Promise<readonly { protocol: Protocol; port: number }[]>;
  assigned(): readonly AssignedPort[];
  /** Ports allocated to tasks. */
  allocated(): readonly AllocatedPort[];
}

export type PortAllocator = (task: AssignedTask, had: readonly AllocatedPort[]) => Promise<AllocatedPort[]>;

/**
 * Allocates numbers for a task's host mode ports that have none; throws MeshError `exhausted` when none is free. One task
 * after the other, so that no two get the same.
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
