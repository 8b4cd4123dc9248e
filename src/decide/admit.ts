import { MeshError } from '../base/errors.ts';
import type { Service } from '../model/cluster.ts';
import { sameValue } from '../model/equality.ts';
import { TEMPLATE_FIELDS } from '../model/generation.ts';
import { type PortSpec, portKey, publishedKey, type ServiceSpec } from '../model/spec.ts';
import { AUTOMATIC_PORTS, allocatePort, isAutomatic } from './allocate.ts';
import { describeChanges, portName } from './changes.ts';

/** What storing a spec would change, decided against the services that are stored now. */
export interface Admission {
  action: 'created' | 'updated' | 'unchanged';
  /** The spec to store, with automatic ports allocated. */
  spec: ServiceSpec;
  /** The tasks of the service must be replaced. */
  newGeneration: boolean;
  /** One line per change; empty unless updated. */
  changes: string[];
}

/**
 * Decides whether this spec may be stored beside the others. Port rules are Swarm's: one owner for each protocol and published port in
 * ingress mode; host mode ports of different services may be equal (their tasks then never share a node).
 * Throws MeshError `conflict` (port taken), `invalid` (a change that is not allowed), `exhausted` (no automatic port free).
 */
export function admit(spec: ServiceSpec, current: Service | undefined, others: Iterable<Service>): Admission {
  const owners = portOwners(others, current?.id);
  rejectDuplicates(spec);
  for (const port of spec.ports) {
    // A service that was stored before a port was reserved keeps it, so that it can still be scaled.
    const wasPublished = current?.spec.ports.some(
      (old) => old.published === port.published && old.protocol === port.protocol,
    );
    if (wasPublished !== true) rejectReserved(port);
    rejectConflict(port, owners);
  }
  if (current !== undefined && current.spec.mode !== spec.mode) {
    throw new MeshError(
      'invalid',
      `service ${spec.name} is ${current.spec.mode}; its mode cannot become ${spec.mode}: remove it first (meshctl service rm ${spec.name})`,
    );
  }
  // A manifest never sets `forced`: applying one does not repeat an earlier `service update --force`.
  const forced = spec.forced ?? current?.spec.forced;
  const complete = {
    ...spec,
    ports: choosePorts(spec.ports, current?.spec.ports ?? [], owners),
    ...(forced === undefined ? {} : { forced }),
  };
  if (current === undefined) return { action: 'created', spec: complete, newGeneration: false, changes: [] };
  if (sameValue(withSortedPorts(current.spec), withSortedPorts(complete))) {
    return { action: 'unchanged', spec: current.spec, newGeneration: false, changes: [] };
  }
  return {
    action: 'updated',
    spec: complete,
    newGeneration: TASK_FIELDS.some((field) => !sameValue(current.spec[field], complete[field])),
    changes: describeChanges(current.spec, complete),
  };
}

/** A change of these needs new tasks. Ports and weights are not among them, because they belong to the data path alone. */
const TASK_FIELDS = [...TEMPLATE_FIELDS, 'forced'] as const;

/** The order of ports has no meaning: a manifest sorts them, `--publish-add` appends one. */
function withSortedPorts(spec: ServiceSpec): ServiceSpec {
  return { ...spec, ports: [...spec.ports].sort((a, b) => (portName(a) < portName(b) ? -1 : 1)) };
}

interface PortOwner {
  service: Service;
  mode: PortSpec['mode'];
}

function portOwners(services: Iterable<Service>, except: string | undefined): Map<string, PortOwner> {
  const owners = new Map<string, PortOwner>();
  for (const service of services) {
    if (service.id === except) continue;
    for (const port of service.spec.ports) {
      const key = publishedKey(port);
      if (key !== undefined) owners.set(key, { service, mode: port.mode });
    }
  }
  return owners;
}

function rejectDuplicates(spec: ServiceSpec): void {
  const seen = new Set<string>();
  for (const port of spec.ports) {
    const published = publishedKey(port);
    const key = published === undefined ? portName(port) : `port ${published}`;
    if (seen.has(key)) throw new MeshError('invalid', `service ${spec.name} publishes ${key} twice: remove one`);
    seen.add(key);
  }
}

/**
 * Ports that nodes themselves cannot do without: the mesh takes a published port on every node, before any program that
 * listens there. 2377 and 2378 are defaults; what listens elsewhere is not known here.
 */
const RESERVED_PORTS: Readonly<Record<string, string>> = {
  '2377/tcp': 'the manager',
  '2378/tcp': 'the health endpoint',
  '4789/udp': 'VXLAN',
  '22/tcp': 'sshd',
};

function rejectReserved(port: PortSpec): void {
  const key = publishedKey(port);
  const what = key === undefined ? undefined : RESERVED_PORTS[key];
  if (what === undefined) return;
  throw new MeshError('invalid', `published port ${key} is reserved for ${what} on every node; choose another`);
}

function rejectConflict(port: PortSpec, owners: ReadonlyMap<string, PortOwner>): void {
  const key = publishedKey(port);
  const owner = key === undefined ? undefined : owners.get(key);
  if (owner === undefined || (owner.mode === 'host' && port.mode === 'host')) return;
  const how = owner.mode === 'ingress' ? 'as an ingress port' : 'as a host-published port';
  const { name, id } = owner.service;
  throw new MeshError(
    'conflict',
    `port '${key}' is already in use by service '${name}' (${id}) ${how}; publish another port, or remove that service`,
  );
}

/** Allocates numbers for ingress ports without one; a port keeps the number it had. */
function choosePorts(
  ports: readonly PortSpec[],
  before: readonly PortSpec[],
  owners: ReadonlyMap<string, PortOwner>,
): PortSpec[] {
  const assigned = new Set<string>();
  const assign = (port: PortSpec, published: number): PortSpec => {
    assigned.add(portKey({ protocol: port.protocol, published }));
    return { ...port, published };
  };
  const isFree = (protocol: PortSpec['protocol'], published: number) => {
    const key = portKey({ protocol, published });
    return !owners.has(key) && !assigned.has(key);
  };
  // Ports with a number first, then those that had one, so that a new port never gets a number in use.
  const kept = ports.map((port) => {
    if (port.published !== undefined) return assign(port, port.published);
    const previous = before.find(
      (old) => old.protocol === port.protocol && old.target === port.target && isAutomatic(old.published),
    )?.published;
    const isExplicit = ports.some((other) => other.published === previous && other.protocol === port.protocol);
    return port.mode === 'ingress' && previous !== undefined && !isExplicit && isFree(port.protocol, previous)
      ? assign(port, previous)
      : port;
  });
  return kept.map((port) => {
    if (port.published !== undefined || port.mode !== 'ingress') return port;
    const published = allocatePort((number) => !isFree(port.protocol, number));
    if (published !== undefined) return assign(port, published);
    throw new MeshError(
      'exhausted',
      `no automatic ${port.protocol} port is free in ${AUTOMATIC_PORTS.from}-${AUTOMATIC_PORTS.to}; specify a published port for target ${port.target}`,
    );
  });
}
