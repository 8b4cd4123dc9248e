import { MeshError } from '../base/errors.ts';
import { allocateNodeNumber } from '../decide/allocate.ts';
import type { Node } from '../model/cluster.ts';
import { LIMIT } from '../model/limits.ts';
import { address, invalid, labelKey, list, name, record, text, word } from '../rpc/check.ts';
import { type TaskStatusReport, taskReportFromWire } from '../rpc/convert-cluster.ts';
import type * as wire from '../rpc/gen/mesh.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { newId } from './id.ts';

/** An agent's first words, checked. */
export interface Arrival {
  name: string;
  /** Empty on first contact. */
  nodeId: string;
  underlay: string;
  labels: Record<string, string>;
  version: string;
  kernelRelease: string;
  role: Node['role'];
  tasks: TaskStatusReport[];
}

/** Throws MeshError `invalid`. */
export function arrivalFromWire(hello: wire.Hello): Arrival {
  return {
    name: name(hello.name, 'hello.name'),
    nodeId: text(hello.nodeId, 'hello.node_id', LIMIT.name),
    underlay: usable(address(hello.underlay, 'hello.underlay')),
    labels: record(hello.labels, 'hello.labels', labelKey, LIMIT.value),
    version: text(hello.version, 'hello.version', LIMIT.value),
    kernelRelease: text(hello.kernelRelease, 'hello.kernel_release', LIMIT.value),
    role: word(hello.role, 'hello.role', ['manager', 'worker']),
    tasks: list(hello.tasks, 'hello.tasks', 100_000, taskReportFromWire),
  };
}

/** Other nodes must be able to send there. */
function usable(underlay: string): string {
  if (/^(127\.|0\.|22[4-9]\.|23\d\.|255\.)/.test(underlay) || underlay === '::' || underlay === '::1') {
    throw invalid(
      'hello.underlay',
      `${underlay} cannot be reached by other nodes: start the agent with --advertise ADDRESS`,
    );
  }
  return underlay;
}

/**
 * The node that arrives, as it is to be stored: known by its id, then by its name (its disk may be new), else a new one.
 * Errors: `conflict` when another machine that is connected has this name or address, `exhausted` when no node number
 * is left.
 */
export function admitNode(
  arrival: Arrival,
  index: ClusterIndex,
  connected: (nodeId: string) => boolean,
  now: number,
): Node {
  const byName = index.nodeByName(arrival.name);
  const known = index.node(arrival.nodeId) ?? byName;
  if (byName !== undefined && byName !== known) {
    throw new MeshError(
      'conflict',
      `the name ${arrival.name} belongs to another node (${byName.id}): start this one with another --name`,
    );
  }
  if (
    known !== undefined &&
    known.id !== arrival.nodeId &&
    connected(known.id) &&
    known.underlay !== arrival.underlay
  ) {
    throw new MeshError(
      'conflict',
      `a node named ${arrival.name} is connected from ${known.underlay}: start this one with another --name`,
    );
  }
  for (const other of index.nodes()) {
    if (other.id === known?.id || other.underlay !== arrival.underlay || !connected(other.id)) continue;
    throw new MeshError(
      'conflict',
      `node ${other.name} is connected with the same address ${arrival.underlay}: give each node its own --advertise`,
    );
  }
  const current = {
    name: arrival.name,
    role: arrival.role,
    underlay: arrival.underlay,
    agentVersion: arrival.version,
    kernelRelease: arrival.kernelRelease,
    labels: labelsOf(arrival, known),
    declaredLabels: arrival.labels,
    state: 'ready' as const,
    stateSince: known?.state === 'ready' ? known.stateSince : now,
    updatedAt: now,
  };
  if (known !== undefined) return { ...known, ...current };
  const number = allocateNodeNumber([...index.nodes()], index.networks);
  if (number === undefined) {
    throw new MeshError(
      'exhausted',
      'no node number is left in the ingress subnet: remove nodes that are gone (meshctl node rm)',
    );
  }
  return { ...current, id: newId(), version: 0, createdAt: now, number, availability: 'active' };
}

/** What changed in the agent's own labels changes here; what people set with meshctl stays. */
function labelsOf(arrival: Arrival, known: Node | undefined): Record<string, string> {
  if (known === undefined) return arrival.labels;
  const labels = { ...known.labels };
  const before = known.declaredLabels ?? {};
  for (const [key, value] of Object.entries(before)) {
    if (arrival.labels[key] === undefined && labels[key] === value) delete labels[key];
  }
  for (const [key, value] of Object.entries(arrival.labels)) if (before[key] !== value) labels[key] = value;
  return labels;
}
