import { MeshError } from '../../base/errors.ts';
import { admit } from '../../decide/admit.ts';
import { AUTOMATIC_PORTS } from '../../decide/allocate.ts';
import { drainingPortsAfter } from '../../decide/draining-ports.ts';
import { storedEntrances } from '../../decide/entrances.ts';
import { type HostListeners, portConflictWarnings } from '../../decide/port-conflicts.ts';
import { specWarnings } from '../../decide/spec-warnings.ts';
import type { Service } from '../../model/cluster.ts';
import { newGeneration } from '../../model/generation.ts';
import { LIMIT } from '../../model/limits.ts';
import { type PortSpec, portKey, type ServiceSpec } from '../../model/spec.ts';
import type { Write } from '../../store/store.ts';
import type { ClusterView } from './cluster-view.ts';
import { newId } from './id.ts';
import type { AdmittedService } from './leader.ts';
import { put } from './writer.ts';

export interface AdmissionResult {
  admitted: AdmittedService[];
  /** Changed services, as they will be stored. */
  services: Service[];
  writes: Write[];
}

/**
 * Admits all of these specs together: a port may move from one service to another in one request. To be run alone
 * (writer.ts), and its writes committed before the next decision. The cost depends on the request, not on the cluster. Errors as in decide/admit.ts and decide/port-conflicts.ts; nothing is admitted when one spec is rejected.
 */
export function admitSpecs(
  specs: readonly ServiceSpec[],
  view: ClusterView,
  now: number,
  listeners: HostListeners = { nodes: [], byPort: new Map() },
): AdmissionResult {
  const staged = new Map<string, Service>();
  for (const spec of specs) {
    if (staged.has(spec.name)) throw new MeshError('invalid', `service ${spec.name} is specified twice: merge the two`);
    staged.set(spec.name, stageService(spec, view.serviceByName(spec.name), now));
  }
  const added = specs.filter(({ name }) => view.serviceByName(name) === undefined).length;
  if (view.totals().services + added > LIMIT.services) {
    throw new MeshError('exhausted', `the cluster would have more than ${LIMIT.services} services: remove some`);
  }
  const claims = portClaims(staged.values());
  const result: AdmissionResult = { admitted: [], services: [], writes: [] };
  for (const spec of specs) {
    const stagedService = staged.get(spec.name)!;
    const current = view.serviceByName(spec.name);
    const {
      action,
      spec: complete,
      newGeneration: needsNewTasks,
      changes,
    } = admit(spec, current, conflictCandidates(spec, staged, claims, view));
    const { leaving: _, entrances: __, ...rest } = stagedService;
    const drainingPorts = current === undefined ? [] : drainingPortsAfter(current, complete, view.revision + 1, now);
    const service: Service = {
      ...rest,
      spec: complete,
      taskGeneration: stagedService.taskGeneration + Number(needsNewTasks),
      ...(drainingPorts.length === 0 ? {} : { leaving: drainingPorts }),
    };
    const entrances = storedEntrances(service, current);
    if (entrances !== undefined) service.entrances = entrances;
    staged.set(spec.name, service);
    addClaims(claims, service);
    const warnings = [...portConflictWarnings(complete, current?.spec, listeners), ...specWarnings(complete)];
    result.admitted.push({ id: service.id, name: spec.name, action, changes, warnings });
    if (action === 'unchanged') continue;
    result.services.push(service);
    result.writes.push(put('services', service));
    if (current === undefined || needsNewTasks)
      result.writes.push(put('generations', newGeneration(service.id, service.taskGeneration, service.spec, now)));
  }
  return result;
}

/** A service as it will be, except for ports that are still to be allocated; its former automatic ports stay reserved. */
function stageService(spec: ServiceSpec, current: Service | undefined, now: number): Service {
  const kept = (current?.spec.ports ?? []).filter(
    (port) =>
      isAutomatic(port) &&
      spec.ports.some((requested) => requested.published === undefined && sameTarget(requested, port)),
  );
  const fixedPorts = spec.ports.filter((port) => port.published !== undefined);
  const base = current ?? { id: newId(), version: 0, createdAt: now, taskGeneration: 1 };
  return { ...base, updatedAt: now, name: spec.name, spec: { ...spec, ports: [...fixedPorts, ...kept] } };
}

/** Port → names of staged services that request it. */
type PortClaims = Map<string, Set<string>>;

function portClaims(services: Iterable<Service>): PortClaims {
  const claims: PortClaims = new Map();
  for (const service of services) addClaims(claims, service);
  return claims;
}

function addClaims(claims: PortClaims, service: Service): void {
  for (const { protocol, published } of service.spec.ports) {
    if (published === undefined) continue;
    const key = portKey({ protocol, published });
    const serviceNames = claims.get(key) ?? new Set<string>();
    claims.set(key, serviceNames.add(service.name));
  }
}

/** All services whose ports may conflict with this one; as staged, if they are part of the request. */
function conflictCandidates(
  spec: ServiceSpec,
  staged: ReadonlyMap<string, Service>,
  claims: PortClaims,
  view: ClusterView,
): Set<Service> {
  const found = new Set<Service>();
  const addServicesWithPort = (key: string) => {
    for (const service of view.servicesWithPort(key)) if (!staged.has(service.name)) found.add(service);
    for (const name of claims.get(key) ?? []) if (name !== spec.name) found.add(staged.get(name)!);
  };
  const automatic = new Set<PortSpec['protocol']>();
  for (const { protocol, published } of spec.ports) {
    if (published === undefined) automatic.add(protocol);
    else addServicesWithPort(portKey({ protocol, published }));
  }
  for (const protocol of automatic) {
    for (let published: number = AUTOMATIC_PORTS.from; published <= AUTOMATIC_PORTS.to; published += 1) {
      addServicesWithPort(portKey({ protocol, published }));
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
