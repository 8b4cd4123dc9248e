import type { Protocol } from '../../model/address.ts';
import type { AssignedPort } from '../../model/assignment.ts';
import type { TaskStatus } from '../../model/cluster.ts';
import { portKey } from '../../model/spec.ts';
import type { PortRange } from './ephemeral-ports.ts';

/** First of the numbers that IANA hands to nobody (RFC 6335, section 6). */
const FIRST_DYNAMIC_PORT = 49_152;
const LAST_PORT = 65_535;

export type AllocatedPort = NonNullable<TaskStatus['ports']>[number];

/**
 * Published numbers for host mode ports without one: those it has stay, the others get one that `taken` (`61000/tcp`)
 * does not have. Outside `local` while there is one: a connection this node opens there would be torn by the DNAT.
 * Undefined when a port found none.
 */
export function allocatePorts(
  taskId: string,
  requested: readonly { protocol: Protocol; port: number }[],
  current: readonly AllocatedPort[],
  inUse: ReadonlySet<string>,
  ephemeral: PortRange,
): AllocatedPort[] | undefined {
  const allocated: AllocatedPort[] = [];
  const used = new Set([...inUse, ...current.map(portKey)]);
  for (const { protocol, port: target } of requested) {
    const existing = current.find((port) => port.protocol === protocol && port.target === target);
    const published = existing?.published ?? findFreePort(`${taskId} ${target}/${protocol}`, protocol, used, ephemeral);
    if (published === undefined) return undefined;
    const port = { protocol, target, published };
    used.add(portKey(port));
    allocated.push(port);
  }
  return allocated;
}

/** Whether these are just the ports that are asked for. */
export function areAllocated(
  requested: readonly { protocol: Protocol; port: number }[],
  allocated: readonly AllocatedPort[],
): boolean {
  const matches = (one: { protocol: Protocol; port: number }) =>
    allocated.some(({ protocol, target }) => protocol === one.protocol && target === one.port);
  return requested.length === allocated.length && requested.every(matches);
}

/** The first free one from a place that the seed decides, outside the local range if there is one at all. */
function findFreePort(
  seed: string,
  protocol: Protocol,
  used: ReadonlySet<string>,
  ephemeral: PortRange,
): number | undefined {
  const outside: number[] = [];
  const inside: number[] = [];
  for (let number = FIRST_DYNAMIC_PORT; number <= LAST_PORT; number++) {
    (number < ephemeral.from || number > ephemeral.to ? outside : inside).push(number);
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
export function portsInUse(
  listeners: readonly { protocol: Protocol; port: number }[],
  assigned: readonly AssignedPort[],
  allocated: readonly AllocatedPort[],
): Set<string> {
  return new Set([
    ...listeners.map(({ protocol, port }) => portKey({ protocol, published: port })),
    ...assigned.map(portKey),
    ...allocated.map(portKey),
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
