import { MeshError } from '../base/errors.ts';
import { type AdmissionWarning, admissionWarning } from '../model/admission-warning.ts';
import type { Listener, Node } from '../model/cluster.ts';
import { coversAddress, listenerName } from '../model/listener.ts';
import { type PortSpec, portKey, publishedKey, type ServiceSpec } from '../model/spec.ts';
import { matchesConstraints } from './schedule.ts';

/** Warnings per service; further ones are counted. */
const MAX_WARNINGS = 20;

/** Programs of nodes, outside the mesh. */
export interface HostListeners {
  nodes: readonly Node[];
  /** By the port they listen on: `8080/tcp`. */
  byPort: ReadonlyMap<string, readonly NodeListener[]>;
}

interface NodeListener {
  node: Node;
  listener: Listener;
}

export function hostListeners(nodes: Iterable<Node>, of: (nodeId: string) => readonly Listener[]): HostListeners {
  const all = [...nodes];
  const byPort = new Map<string, NodeListener[]>();
  for (const node of all) {
    for (const listener of of(node.id)) {
      const key = portKey({ protocol: listener.protocol, published: listener.port });
      const atPort = byPort.get(key);
      if (atPort === undefined) byPort.set(key, [{ node, listener }]);
      else atPort.push({ node, listener });
    }
  }
  return { nodes: all, byPort };
}

/**
 * Warnings about programs that already listen on a service's ports. Throws MeshError `conflict`
 * for a port that it did not have before and that several nodes, or all nodes that would publish it, withhold. A single node
 * only withholds the port from itself: a report of one node must not decide for the cluster.
 */
export function portConflictWarnings(
  spec: ServiceSpec,
  before: ServiceSpec | undefined,
  { nodes, byPort }: HostListeners,
): AdmissionWarning[] {
  const portsBefore = new Set(before?.ports.map(publishedKey));
  // Each program of a node once, on however many addresses it listens.
  const warnings = new Map<string, AdmissionWarning>();
  for (const port of spec.ports) {
    const key = publishedKey(port) ?? '';
    const conflicts = (byPort.get(key) ?? []).filter(
      ({ node, listener }) => publishesOn(port, node, spec) && coversAddress(listener.address, port.addresses),
    );
    if (!portsBefore.has(key)) rejectWithheldPort(spec, port, conflicts, nodes);
    for (const { node, listener } of conflicts) {
      const name = listenerName(listener);
      const params = { port: key, listener: name, node: node.name, service: spec.name };
      const warning = admissionWarning(listener.protected ? 'PortWithheld' : 'PortInUse', params);
      warnings.set(`${key} ${node.id} ${name}`, warning);
    }
  }
  const all = [...warnings.values()];
  const more = all.length - MAX_WARNINGS;
  return more <= 0 ? all : [...all.slice(0, MAX_WARNINGS), admissionWarning('MorePortsInUse', { count: more })];
}

function rejectWithheldPort(
  spec: ServiceSpec,
  port: PortSpec,
  conflicts: readonly NodeListener[],
  nodes: readonly Node[],
): void {
  const withheld = conflicts.filter(({ listener }) => listener.protected);
  const [first] = withheld;
  if (first === undefined) return;
  const withholding = new Set(withheld.map(({ node }) => node.id)).size;
  const publishing = nodes.filter((node) => publishesOn(port, node, spec)).length;
  if (withholding === 1 && publishing > 1) return;
  throw conflictError(subjectOf(publishedKey(port) ?? '', first), spec, port, first.node);
}

function subjectOf(key: string, { node, listener }: NodeListener): string {
  return `port ${key} is used by ${listenerName(listener)} on ${node.name}`;
}

/** In host mode, any node that may run a task may publish the port. */
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
    `${subject}, which must stay reachable: publish another port for service ${spec.name}, or ${elsewhere}`,
  );
}
