import { MeshError } from '../base/errors.ts';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';

/** What `service update` can ask for. */
export interface ServiceUpdate {
  /** Replace every task, though nothing about them changed. */
  force: boolean;
  publishAdd: readonly PortSpec[];
  /** Target, protocol and mode name the ports to remove, as in Docker. */
  publishRemove: readonly Pick<PortSpec, 'target' | 'protocol' | 'mode'>[];
  replicas?: number;
}

/**
 * The spec with the update applied: removals first, then additions; a port that is there already is left as it is, one
 * with the same published number, or the same target while neither names a number, is replaced. Throws MeshError
 * `not-found` for a port to remove that the service does not publish, `invalid` for replicas of a global service.
 */
export function updatedSpec(spec: ServiceSpec, update: ServiceUpdate): ServiceSpec {
  if (update.replicas !== undefined && spec.mode === 'global') {
    throw new MeshError(
      'invalid',
      `service ${spec.name} is global, it has one task on every node: only replicated services have replicas`,
    );
  }
  let ports = spec.ports;
  for (const gone of update.publishRemove) {
    const left = ports.filter((port) => !sameTarget(port, gone));
    if (left.length === ports.length) {
      throw new MeshError(
        'not-found',
        `service ${spec.name} publishes no target port ${gone.target}/${gone.protocol} in mode ${gone.mode}: name the port inside the task, not the published one (meshctl port ls)`,
      );
    }
    ports = left;
  }
  for (const added of update.publishAdd) ports = [...ports.filter((port) => !replaces(added, port)), added];
  return {
    ...spec,
    ports,
    ...(update.replicas === undefined ? {} : { replicas: update.replicas }),
    ...(update.force ? { forced: (spec.forced ?? 0) + 1 } : {}),
  };
}

function replaces(added: PortSpec, port: PortSpec): boolean {
  if (added.protocol !== port.protocol) return false;
  return added.published === undefined ? sameTarget(added, port) : added.published === port.published;
}

function sameTarget(a: Pick<PortSpec, 'target' | 'protocol' | 'mode'>, b: typeof a): boolean {
  return a.target === b.target && a.protocol === b.protocol && a.mode === b.mode;
}
