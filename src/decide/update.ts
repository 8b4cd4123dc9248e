import { MeshError } from '../base/errors.ts';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { isAutomatic } from './allocate.ts';

/** What `service update` can change. */
export interface ServiceUpdate {
  /** Replaces every task although nothing about them changed. */
  force: boolean;
  publishAdd: readonly PortSpec[];
  /** Target, protocol and mode name the ports to remove, as in Docker. */
  publishRemove: readonly Pick<PortSpec, 'target' | 'protocol' | 'mode'>[];
  replicas?: number;
}

/**
 * The spec with the update applied: removals first, then additions. An added port takes the place of the one with the
 * same published number (without a number: of the one with the same target whose number was allocated) and keeps its
 * options, so that naming a port again, or changing its target, never widens access to it. Throws MeshError `not-found` for a port
 * to remove that the service does not publish, `invalid` for replicas of a global service.
 */
export function applyUpdate(spec: ServiceSpec, update: ServiceUpdate): ServiceSpec {
  if (update.replicas !== undefined && spec.mode === 'global') {
    throw new MeshError(
      'invalid',
      `service ${spec.name} is global, it has one task on every node: only replicated services have replicas`,
    );
  }
  let ports = spec.ports;
  for (const removed of update.publishRemove) {
    const remaining = ports.filter((port) => !sameTarget(port, removed));
    if (remaining.length === ports.length) {
      throw new MeshError('not-found', notPublishedMessage(spec, removed));
    }
    ports = remaining;
  }
  for (const added of update.publishAdd) {
    const old = ports.find((port) => replaces(added, port));
    ports = [...ports.filter((port) => port !== old), old === undefined ? added : inheritOptions(old, added)];
  }
  return {
    ...spec,
    ports,
    ...(update.replicas === undefined ? {} : { replicas: update.replicas }),
    ...(update.force ? { forced: (spec.forced ?? 0) + 1 } : {}),
  };
}

function notPublishedMessage(spec: ServiceSpec, removed: ServiceUpdate['publishRemove'][number]): string {
  const what = `service ${spec.name} publishes no target port ${removed.target}/${removed.protocol} in mode ${removed.mode}`;
  const same = (port: PortSpec) => port.protocol === removed.protocol;
  const other = spec.ports.find((port) => same(port) && port.target === removed.target);
  const named = spec.ports.find((port) => same(port) && port.published === removed.target);
  const found = other ?? named;
  if (found === undefined) return `${what}; see \`meshctl port ls\``;
  const mode = found.mode === 'ingress' ? '' : `,mode=${found.mode}`;
  const suggestion =
    mode === '' ? `${found.target}/${found.protocol}` : `target=${found.target},protocol=${found.protocol}${mode}`;
  return `${what}; did you mean ${suggestion}?`;
}

/** Options of a port besides its numbers; balancing options do not apply in mode host. */
function inheritOptions(old: PortSpec, added: PortSpec): PortSpec {
  const { protocol: _, target, published, mode, ready, ...declared } = old;
  const { addresses, allowFrom, idleTimeout } = declared;
  const kept =
    mode === added.mode
      ? declared
      : {
          ...(addresses === undefined ? {} : { addresses }),
          ...(allowFrom === undefined ? {} : { allowFrom }),
          ...(idleTimeout === undefined ? {} : { idleTimeout }),
        };
  const number = added.published ?? published;
  const onDemand = ready === undefined || target !== added.target ? {} : { ready };
  return { ...onDemand, ...kept, ...added, ...(number === undefined ? {} : { published: number }) };
}

function replaces(added: PortSpec, port: PortSpec): boolean {
  if (added.protocol !== port.protocol) return false;
  if (added.published !== undefined) return added.published === port.published;
  return sameTarget(added, port) && (port.published === undefined || isAutomatic(port.published));
}

function sameTarget(a: Pick<PortSpec, 'target' | 'protocol' | 'mode'>, b: typeof a): boolean {
  return a.target === b.target && a.protocol === b.protocol && a.mode === b.mode;
}
