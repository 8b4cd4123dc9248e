import type { Protocol } from '../model/address.ts';
import type { Redirect } from '../model/assignment.ts';
import type { Entrance, Service } from '../model/cluster.ts';
import { type PortSpec, portKey } from '../model/spec.ts';

/*
 * Several published ports may map to one target port. IPVS identifies an answer by the addresses and ports of task and
 * client only, so one client port through two published ports would be one connection for it. Therefore only one of these
 * ports leads to the target itself; each other one leads to a port of its own, which the task's netns redirects to the target.
 * A port keeps its entrance as long as it is published or drains, whatever becomes of the others: its open connections have
 * it in all balancers. So the service stores them.
 */

type EntranceView = Pick<Service, 'spec' | 'leaving' | 'entrances'>;

/** Real server ports by published port: `entrancePort` looks one up. */
export type Entrances = ReadonlyMap<string, number>;

/** What a service stores when its ports change; undefined where all ports lead to their targets. */
export function storedEntrances(service: EntranceView, before: EntranceView | undefined): Entrance[] | undefined {
  const entrances = [...entrancesOf({ ...service, entrances: before === undefined ? [] : allEntrances(before) })];
  return entrances.length === 0 ? undefined : entrances.map(([port, target]) => ({ port, target }));
}

function allEntrances(service: EntranceView): Entrance[] {
  const entrances = entrancesOf(service);
  return allPorts(service).map((port) => ({ port: entranceKey(port), target: entrancePort(entrances, port) }));
}

/** Of all ports that a service declares or drains. Where they are the targets, they are left out. */
export function entrancesOf(service: EntranceView): Entrances {
  const ports = new Map(allPorts(service).map((port) => [entranceKey(port), port]));
  const stored = new Map(service.entrances?.map(({ port, target }) => [port, target]));
  // Ports of the task that belong to a published port.
  const taken = new Set<string>();
  for (const [key, port] of ports) {
    const target = stored.get(key);
    if (target !== undefined) taken.add(targetKey({ ...port, target }));
  }
  const targets = new Set([...ports.values()].map(targetKey));
  const isFree = (protocol: Protocol, target: number) => {
    const key = targetKey({ protocol, target });
    return !targets.has(key) && !taken.has(key);
  };
  const entrances = new Map<string, number>();
  for (const [key, port] of ports) {
    let target = stored.get(key);
    if (target === undefined) {
      target = taken.has(targetKey(port)) ? freePort(port, isFree) : port.target;
      taken.add(targetKey({ ...port, target }));
    }
    if (target !== port.target) entrances.set(key, target);
  }
  return entrances;
}

/** The port of a task to which a published port leads. */
export function entrancePort(entrances: Entrances, port: PortSpec): number {
  return entrances.get(entranceKey(port)) ?? port.target;
}

/** What the netns of each task of the service has to redirect. */
export function redirectsOf(service: EntranceView): Redirect[] {
  const entrances = entrancesOf(service);
  const redirects = allPorts(service).flatMap((port): [string, Redirect][] => {
    const from = entrances.get(entranceKey(port));
    return from === undefined ? [] : [[entranceKey(port), { protocol: port.protocol, from, to: port.target }]];
  });
  return [...new Map(redirects).values()];
}

/** By published number; of equal ones the declared one is first. */
function allPorts({ spec, leaving }: EntranceView): PortSpec[] {
  const number = ({ published }: PortSpec) => published ?? Number.POSITIVE_INFINITY;
  const ports = [...spec.ports, ...(leaving ?? []).map(({ port }) => port)];
  return ports.sort((a, b) => (number(a) < number(b) ? -1 : Number(number(a) > number(b))));
}

/** The published number, which is what people look for in `ipvsadm -Ln`; where it is a target itself, the highest free port. */
function freePort({ protocol, published }: PortSpec, isFree: (protocol: Protocol, port: number) => boolean): number {
  if (published !== undefined && isFree(protocol, published)) return published;
  let port = 65_535;
  while (!isFree(protocol, port)) port -= 1;
  return port;
}

function targetKey({ protocol, target }: Pick<PortSpec, 'protocol' | 'target'>): string {
  return `${protocol}/${target}`;
}

/** A number may be declared with one target while it drains with another. Of host mode ports without a number there is one per target. */
function entranceKey({ protocol, published, target, mode }: PortSpec): string {
  return `${mode} ${published === undefined ? protocol : portKey({ protocol, published })} ${target}`;
}
