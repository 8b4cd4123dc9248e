import type { Redirect } from '../model/assignment.ts';
import type { Service } from '../model/cluster.ts';
import { type PortSpec, portKey } from '../model/spec.ts';

/*
 * Several published ports may map to one target port. IPVS identifies an answer by the addresses and ports of task and
 * client only, so one client port through two published ports would be one connection for it. Therefore only one of these
 * ports leads to the target itself; each other one leads to a port of its own, which the task's netns redirects to the target.
 */

/** Real server ports by published port: `entrancePort` looks one up. */
export type Entrances = ReadonlyMap<string, number>;

/** Of all ports that a service declares or drains. Where they are the targets, they are left out. */
export function entrancesOf(service: Pick<Service, 'spec' | 'leaving'>): Entrances {
  const ports = allPorts(service);
  const used = new Set(ports.map((port) => targetKey(port)));
  const reached = new Set<string>();
  const entrances = new Map<string, number>();
  for (const port of ports) {
    // SCTP checksums cover ports, which the kernel does not rewrite without a module.
    if (port.protocol === 'sctp' || entrances.has(entranceKey(port))) continue;
    if (!reached.has(targetKey(port))) {
      reached.add(targetKey(port));
      continue;
    }
    const target = freePort(port, used);
    used.add(targetKey({ protocol: port.protocol, target }));
    entrances.set(entranceKey(port), target);
  }
  return entrances;
}

/** The port of a task to which a published port leads. */
export function entrancePort(entrances: Entrances, port: PortSpec): number {
  return entrances.get(entranceKey(port)) ?? port.target;
}

/** What the netns of each task of the service has to redirect. */
export function redirectsOf(service: Pick<Service, 'spec' | 'leaving'>): Redirect[] {
  const entrances = entrancesOf(service);
  const redirects = allPorts(service).flatMap((port): [string, Redirect][] => {
    const from = entrances.get(entranceKey(port));
    return from === undefined ? [] : [[entranceKey(port), { protocol: port.protocol, from, to: port.target }]];
  });
  return [...new Map(redirects).values()];
}

/** By published number: a port keeps its place while it drains, so that open connections keep theirs. */
function allPorts({ spec, leaving }: Pick<Service, 'spec' | 'leaving'>): PortSpec[] {
  const number = ({ published }: PortSpec) => published ?? Number.POSITIVE_INFINITY;
  const ports = [...spec.ports, ...(leaving ?? []).map(({ port }) => port)];
  return ports.sort((a, b) => (number(a) < number(b) ? -1 : Number(number(a) > number(b))));
}

/** The published number, which is what people look for in `ipvsadm -Ln`; where it is a target itself, the highest free port. */
function freePort({ protocol, published }: PortSpec, used: ReadonlySet<string>): number {
  const isFree = (target: number) => !used.has(targetKey({ protocol, target }));
  if (published !== undefined && isFree(published)) return published;
  let port = 65_535;
  while (!isFree(port)) port -= 1;
  return port;
}

function targetKey({ protocol, target }: Pick<PortSpec, 'protocol' | 'target'>): string {
  return `${protocol}/${target}`;
}

/** Of host mode ports without a number there is at most one for each target. */
function entranceKey(port: PortSpec): string {
  const { protocol, published, target, mode } = port;
  return published === undefined ? `${mode} ${protocol}/${target}` : `${mode} ${portKey({ protocol, published })}`;
}
