import { FAMILY_NAMES, familyOf, type IpAddress } from '../../model/address.ts';
import type { AssignedTask, TargetPort } from '../../model/assignment.ts';
import { acceptsFamily, type BoundSocket } from '../../model/bound-socket.ts';
import type { MissingFamily } from '../../model/cluster.ts';
import { formatPorts } from '../../model/port-ranges.ts';

/** What the sockets of a task say about the clients it could serve. */
export interface Readiness {
  /** Why clients of every family would be refused on some target; undefined when every target accepts one. */
  problem?: string;
  /** Families that a target does not accept although it accepts another. */
  missing: MissingFamily[];
  /** Number of targets that accept clients. */
  accepting: number;
  /** Targets with sockets that accept no client, such as of 127.0.0.1, and what to bind; undefined when there are none. */
  unreachable?: string;
}

type JudgedTask = Pick<AssignedTask, 'targets' | 'addresses' | 'health'>;

/** Judges each target of a task in each family that the task has an address of. Targets that are bound on demand may be missing. */
export function judgeReadiness(task: JudgedTask, sockets: readonly BoundSocket[]): Readiness {
  const own = task.addresses.map(({ address }) => address);
  const families = (['inet', 'inet6'] as const).filter((family) => own.some((one) => familyOf(one) === family));
  const missing: MissingFamily[] = [];
  const unready: { target: TargetPort; socket: BoundSocket | undefined }[] = [];
  for (const target of task.targets) {
    const bound = sockets.filter(({ protocol, port }) => protocol === target.protocol && port === target.port);
    const refused = families.filter((family) => !bound.some((socket) => acceptsFamily(socket, family, own)));
    if (refused.length === families.length) unready.push({ target, socket: bound[0] });
    else for (const family of refused) missing.push({ protocol: target.protocol, target: target.port, family });
  }
  const required = unready.filter(({ target }) => target.ready !== false);
  const accepting = task.targets.length - unready.length;
  const misbound = unready.filter(({ socket }) => socket !== undefined);
  const judged = { missing, accepting, ...(misbound.length === 0 ? {} : { unreachable: describe(misbound, own) }) };
  if (required.length === 0) return judged;
  const hint =
    task.health === undefined && mayBeOnDemand(required.filter(({ socket }) => socket === undefined).length, accepting)
      ? '; a port that is bound on demand needs `ready: false` or a health check'
      : '';
  return { problem: `the process runs but ${describe(required, own)}${hint}`, ...judged };
}

/** A single port without listener beside none that accepts is more likely a wrong number. */
function mayBeOnDemand(unbound: number, accepting: number): boolean {
  return unbound > 0 && (accepting > 0 || unbound > 1);
}

/** One part for all targets with the same fault. */
function describe(
  unready: readonly { target: TargetPort; socket: BoundSocket | undefined }[],
  own: IpAddress[],
): string {
  const faults = new Map<string, TargetPort[]>();
  for (const { target, socket } of unready) {
    const fault = socket === undefined ? '' : `${socket.address}${socket.v6only ? ' without IPv4 (IPV6_V6ONLY)' : ''}`;
    faults.set(fault, [...(faults.get(fault) ?? []), target]);
  }
  const parts = [...faults].map(([fault, targets]) => {
    const ports = formatPorts(targets);
    if (fault === '') return `nothing listens on ${ports}`;
    return `${ports} ${targets.length === 1 ? 'is' : 'are'} only on ${fault}; bind ${wildcardFor(own)}`;
  });
  return parts.join(', and ');
}

const WILDCARD = { inet: '0.0.0.0', inet6: '::' } as const;

/** A socket on `::` accepts both families. */
function wildcardFor(own: readonly IpAddress[]): string {
  return WILDCARD[own.some((address) => familyOf(address) === 'inet6') ? 'inet6' : 'inet'];
}

/** `80/tcp, 443/tcp accept no IPv6 clients; bind :: as well`, one text for each family that is missing. */
export function describeMissing(missing: readonly MissingFamily[]): string[] {
  return (['inet', 'inet6'] as const).flatMap((family) => {
    const ports = missing
      .filter((one) => one.family === family)
      .map(({ protocol, target }) => ({ protocol, port: target }));
    if (ports.length === 0) return [];
    const verb = ports.length === 1 ? 'accepts' : 'accept';
    return [`${formatPorts(ports)} ${verb} no ${FAMILY_NAMES[family]} clients; bind ${WILDCARD[family]} as well`];
  });
}
