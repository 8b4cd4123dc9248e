import { readFileSync } from 'node:fs';
import { MeshError } from '../base/errors.ts';
import type { Protocol } from '../model/address.ts';
import type { AssignedPort, AssignedTask } from '../model/assignment.ts';
import { type PickedPort, type PortRange, pickPorts, takenPorts } from './pick-ports.ts';

export interface PortPickerOptions {
  /** Sockets of the host that wait for clients. */
  listeners(): Promise<readonly { protocol: Protocol; port: number }[]>;
  assigned(): readonly AssignedPort[];
  /** What tasks have picked already. */
  picked(): readonly PickedPort[];
}

export type PortPicker = (task: AssignedTask, had: readonly PickedPort[]) => Promise<PickedPort[]>;

/**
 * Picks numbers for a task's host mode ports that have none; throws MeshError `exhausted` when all are taken. One task
 * after the other, so that each sees what the one before took.
 */
export function createPortPicker({ listeners, assigned, picked }: PortPickerOptions): PortPicker {
  let turn: Promise<unknown> = Promise.resolve();
  return (task, had) => {
    const mine = turn.then(async () => {
      const taken = takenPorts(await listeners(), assigned(), picked());
      const ports = pickPorts(task.id, task.pick ?? [], had, taken, localPortRange());
      if (ports === undefined) throw new MeshError('exhausted', 'no port of this node is free for a host mode port');
      return ports;
    });
    turn = mine.catch(() => {});
    return mine;
  };
}

/** Where the kernel takes the ports of outgoing connections from, now; its default (net/ipv4/af_inet.c) when it does not tell. */
function localPortRange(): PortRange {
  try {
    const [from, to] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'utf8').trim().split(/\s+/).map(Number);
    if (from !== undefined && to !== undefined) return { from, to };
  } catch {
    // procfs may not be mounted.
  }
  return { from: 32_768, to: 60_999 };
}
