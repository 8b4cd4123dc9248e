import type { Protocol } from '../../model/address.ts';
import type { AssignedPort } from '../../model/assignment.ts';
import type { TaskStatus } from '../../model/cluster.ts';
import { portKey } from '../../model/spec.ts';
import type { PortRange } from './ephemeral-ports.ts';

/** First dynamic port, which IANA assigns to no service (RFC 6335, section 6). */
const FIRST_DYNAMIC_PORT = 49_152;
const LAST_PORT = 65_535;

export type AllocatedPort = NonNullable<TaskStatus['ports']>[number];

/**
 * Published numbers for host mode ports without one: those it has are kept, the others get one that is not in `inUse`
 * (`61000/tcp`). Outside the ephemeral range while there is one: the DNAT would break a connection that this node opens
 * from that port. Undefined when there is no free port.
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

/** Whether exactly the requested ports are allocated. */
export function areAllocated(
  requested: readonly { protocol: Protocol; port: number }[],
  allocated: readonly AllocatedPort[],
): boolean {
  const matches = (one: { protocol: Protocol; port: number }) =>
    allocated.some(({ protocol, target }) => protocol === one.protocol && target === one.port);
  return requested.length === allocated.length && requested.every(matches);
}

/** The first free port, beginning at one derived from the seed; outside the ephemeral range if possible. */
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

/** Ports of a node that cannot be allocated: of listening programs, of the mesh, of other tasks. */
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
