import { MeshError } from '../base/errors.ts';
import type { Listener, Node } from '../model/cluster.ts';
import { coversAddress, isProtectedListener, listenerName } from '../model/listener.ts';
import { type PortSpec, portKey, publishedKey, type ServiceSpec } from '../model/spec.ts';
import { matchesConstraints } from './schedule.ts';

/** Warnings that one service gets; the rest is counted. */
const MAX_WARNINGS = 20;

/** Programs of nodes, outside the mesh, by the port they listen on: `8080/tcp`. */
export type HostListeners = ReadonlyMap<string, readonly { node: Node; listener: Listener }[]>;

export function hostListeners(nodes: Iterable<Node>, of: (nodeId: string) => readonly Listener[]): HostListeners {
  const found = new Map<string, { node: Node; listener: Listener }[]>();
  for (const node of nodes) {
    for (const listener of of(node.id)) {
      const key = portKey({ protocol: listener.protocol, published: listener.port });
      const atPort = found.get(key);
      if (atPort === undefined) found.set(key, [{ node, listener }]);
      else atPort.push({ node, listener });
    }
  }
  return found;
}

/**
 * What a service's ports would take from programs that listen on them already, in words. Throws MeshError `conflict`
 * for a port that it did not have before and that a node would keep to itself, for sshd or meshd listens there.
 */
export function portConflictWarnings(
  spec: ServiceSpec,
  before: ServiceSpec | undefined,
  found: HostListeners,
): string[] {
  const portsBefore = new Set(before?.ports.map(publishedKey));
  const warnings = new Set<string>();
  for (const port of spec.ports) {
    const key = publishedKey(port) ?? '';
    for (const { node, listener } of found.get(key) ?? []) {
      if (!publishesOn(port, node, spec) || !coversAddress(listener.address, port.addresses)) continue;
      const subject = `port ${key}: on ${node.name} ${listenerName(listener)} listens`;
      if (!isProtectedListener(listener))
        warnings.add(`${subject}; clients of ${node.name} will reach service ${spec.name} instead`);
      else if (portsBefore.has(key))
        warnings.add(`${subject} and keeps the port; service ${spec.name} is not reached through it`);
      else throw conflictError(subject, spec, port, node);
    }
  }
  const all = [...warnings];
  const more = all.length - MAX_WARNINGS;
  return more <= 0 ? all : [...all.slice(0, MAX_WARNINGS), `and ${more} more ports of nodes on which programs listen`];
}

/** In host mode any node may get it that may get a task. */
function publishesOn(port: PortSpec, node: Node, spec: ServiceSpec): boolean {
  return matchesConstraints(node, port.mode === 'host' ? spec.constraints : (port.nodes ?? []));
}

function conflictError(subject: string, spec: ServiceSpec, port: PortSpec, node: Node): MeshError {
  const elsewhere =
    port.mode === 'host'
      ? `keep the tasks from ${node.name} (placement constraint node.hostname != ${node.name})`
      : `leave ${node.name} out (x-mesh: {ingress: {nodes: ["node.hostname != ${node.name}"]}})`;
  return new MeshError(
    'conflict',
    `${subject}, and must stay reachable: publish another port for service ${spec.name}, or ${elsewhere}`,
  );
}
