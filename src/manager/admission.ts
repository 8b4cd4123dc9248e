import { MeshError } from '../base/errors.ts';
import { admit } from '../decide/admit.ts';
import { adviceOf } from '../decide/advice.ts';
import { AUTOMATIC_PORTS } from '../decide/allocate.ts';
import { givenUp } from '../decide/leaving-ports.ts';
import { type HostListeners, portWarnings } from '../decide/preflight.ts';
import type { Service } from '../model/cluster.ts';
import { LIMIT } from '../model/limits.ts';
import { type PortSpec, portKey, type ServiceSpec } from '../model/spec.ts';
import type { AppliedService } from '../rpc/gen/mesh.ts';
import type { Write } from '../store/store.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { newId } from './id.ts';
import { put } from './writer.ts';

export interface Admitted {
  applied: AppliedService[];
  /** Services as they will be, changed ones only. */
  services: Service[];
  writes: Write[];
}

/**
 * What storing these specs means, all of them together: a port may move from one to another in one request. To be
 * called alone (writer.ts), and its writes committed before anybody else decides. Costs what the request names, not
 * what is stored. Errors as in decide/admit.ts and decide/preflight.ts; nothing is admitted when one spec is refused.
 */
export function admitAll(
  specs: readonly ServiceSpec[],
  index: ClusterIndex,
  now: number,
  listeners: HostListeners = new Map(),
): Admitted {
  const staged = new Map<string, Service>();
  for (const spec of specs) {
    if (staged.has(spec.name)) throw new MeshError('invalid', `service ${spec.name} is given twice: merge the two`);
    staged.set(spec.name, stage(spec, index.serviceByName(spec.name), now));
  }
  const added = specs.filter(({ name }) => index.serviceByName(name) === undefined).length;
  if (index.totals().services + added > LIMIT.services) {
    throw new MeshError('exhausted', `the cluster would have more than ${LIMIT.services} services: remove some`);
  }
  const claims = claimsOf(staged.values());
  const result: Admitted = { applied: [], services: [], writes: [] };
  for (const spec of specs) {
    const mine = staged.get(spec.name)!;
    const current = index.serviceByName(spec.name);
    const {
      action,
      spec: complete,
      newGeneration,
      changes,
    } = admit(spec, current, rivals(spec, staged, claims, index));
    const { leaving: _, ...rest } = mine;
    const leaving = current === undefined ? [] : givenUp(current, complete, index.revision + 1, now);
    const service: Service = {
      ...rest,
      spec: complete,
      taskGeneration: mine.taskGeneration + Number(newGeneration),
      ...(leaving.length === 0 ? {} : { leaving }),
    };
    staged.set(spec.name, service);
    claim(claims, service);
    const warnings = [...portWarnings(complete, current?.spec, listeners), ...adviceOf(complete)];
    result.applied.push({ id: service.id, name: spec.name, action, changes, warnings });
    if (action === 'unchanged') continue;
    result.services.push(service);
    result.writes.push(put('services', service));
  }
  return result;
}

/** A service as it will be but for ports that are still to be chosen; those it had are kept for it meanwhile. */
function stage(spec: ServiceSpec, current: Service | undefined, now: number): Service {
  const kept = (current?.spec.ports ?? []).filter(
    (port) =>
      isAutomatic(port) && spec.ports.some((wanted) => wanted.published === undefined && sameTarget(wanted, port)),
  );
  const named = spec.ports.filter((port) => port.published !== undefined);
  const base = current ?? { id: newId(), version: 0, createdAt: now, taskGeneration: 1 };
  return { ...base, updatedAt: now, name: spec.name, spec: { ...spec, ports: [...named, ...kept] } };
}

/** Port → names of staged services that want it. */
type Claims = Map<string, Set<string>>;

function claimsOf(services: Iterable<Service>): Claims {
  const claims: Claims = new Map();
  for (const service of services) claim(claims, service);
  return claims;
}

function claim(claims: Claims, service: Service): void {
  for (const { protocol, published } of service.spec.ports) {
    if (published === undefined) continue;
    const key = portKey({ protocol, published });
    const claimers = claims.get(key) ?? new Set<string>();
    claims.set(key, claimers.add(service.name));
  }
}

/** All services whose ports could stand in the way of this one: as staged where they are part of the request. */
function rivals(
  spec: ServiceSpec,
  staged: ReadonlyMap<string, Service>,
  claims: Claims,
  index: ClusterIndex,
): Set<Service> {
  const found = new Set<Service>();
  const look = (key: string) => {
    for (const service of index.servicesWithPort(key)) if (!staged.has(service.name)) found.add(service);
    for (const name of claims.get(key) ?? []) if (name !== spec.name) found.add(staged.get(name)!);
  };
  const automatic = new Set<PortSpec['protocol']>();
  for (const { protocol, published } of spec.ports) {
    if (published === undefined) automatic.add(protocol);
    else look(portKey({ protocol, published }));
  }
  for (const protocol of automatic) {
    for (let published: number = AUTOMATIC_PORTS.from; published <= AUTOMATIC_PORTS.to; published += 1) {
      look(portKey({ protocol, published }));
    }
  }
  return found;
}

function isAutomatic({ published = 0 }: PortSpec): boolean {
  return published >= AUTOMATIC_PORTS.from && published <= AUTOMATIC_PORTS.to;
}

function sameTarget(a: PortSpec, b: PortSpec): boolean {
  return a.protocol === b.protocol && a.target === b.target;
}
