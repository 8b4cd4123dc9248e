import type { Protocol } from '../model/address.ts';
import type { AssignedPort } from '../model/assignment.ts';
import type { TaskStatus } from '../model/cluster.ts';
import { portKey } from '../model/spec.ts';

/** First of the numbers that IANA hands to nobody (RFC 6335, section 6). */
const FIRST = 49_152;
const LAST = 65_535;

export type PickedPort = NonNullable<TaskStatus['ports']>[number];

/** Numbers from which the kernel takes the ports of outgoing connections (net.ipv4.ip_local_port_range). */
export interface PortRange {
  from: number;
  to: number;
}

/**
 * Published numbers for host mode ports without one: those it has stay, the others get one that `taken` (`61000/tcp`)
 * does not have. Outside `local` while there is one: a connection this node opens there would be torn by the DNAT.
 * Undefined when a port found none.
 */
export function pickPorts(
  taskId: string,
  asked: readonly { protocol: Protocol; port: number }[],
  had: readonly PickedPort[],
  taken: ReadonlySet<string>,
  local: PortRange,
): PickedPort[] | undefined {
  const picked: PickedPort[] = [];
  const used = new Set([...taken, ...had.map(portKey)]);
  for (const { protocol, port: target } of asked) {
    const kept = had.find((port) => port.protocol === protocol && port.target === target);
    const published = kept?.published ?? freeNumber(`${taskId} ${target}/${protocol}`, protocol, used, local);
    if (published === undefined) return undefined;
    const port = { protocol, target, published };
    used.add(portKey(port));
    picked.push(port);
  }
  return picked;
}

/** Whether these are just the ports that are asked for. */
export function hasPicked(asked: readonly { protocol: Protocol; port: number }[], had: readonly PickedPort[]): boolean {
  const matches = (one: { protocol: Protocol; port: number }) =>
    had.some(({ protocol, target }) => protocol === one.protocol && target === one.port);
  return asked.length === had.length && asked.every(matches);
}

/** The first free one from a place that the seed decides, outside the local range if there is one at all. */
function freeNumber(seed: string, protocol: Protocol, used: ReadonlySet<string>, local: PortRange): number | undefined {
  const outside: number[] = [];
  const inside: number[] = [];
  for (let number = FIRST; number <= LAST; number++) {
    (number < local.from || number > local.to ? outside : inside).push(number);
  }
  for (const numbers of [outside, inside]) {
    const start = hash(seed) % Math.max(1, numbers.length);
    for (let step = 0; step < numbers.length; step++) {
      const published = numbers[(start + step) % numbers.length]!;
      if (!used.has(portKey({ protocol, published }))) return published;
    }
  }
  return undefined;
}

/** What of a node nobody may pick: programs that listen, ports of the mesh, what other tasks picked. */
export function takenPorts(
  listeners: readonly { protocol: Protocol; port: number }[],
  assigned: readonly AssignedPort[],
  picked: readonly PickedPort[],
): Set<string> {
  return new Set([
    ...listeners.map(({ protocol, port }) => portKey({ protocol, published: port })),
    ...assigned.map(portKey),
    ...picked.map(portKey),
  ]);
}

/** FNV-1a, 32 bit. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let index = 0; index < text.length; index++) {
    value = Math.imul(value ^ text.charCodeAt(index), 0x01000193);
  }
  return value >>> 0;
}
