import { MeshError } from '../../base/errors.ts';
import { allocateNodeNumber } from '../../decide/allocate.ts';
import type { Node } from '../../model/cluster.ts';
import { INGRESS_NETWORK } from '../../model/identifiers.ts';
import type { Hello } from '../../rpc/messages.ts';
import type { ClusterView } from './cluster-view.ts';
import { newId } from './id.ts';

/**
 * The node of an agent that connects, as it is to be stored: known by its id, then by its name (its disk may be new), else
 * a new one.
 * Errors: `conflict` when another machine that is connected has this name or address, `exhausted` when no address
 * block is left.
 */
export function admitNode(hello: Hello, view: ClusterView, connected: (nodeId: string) => boolean, now: number): Node {
  const byName = view.nodeByName(hello.name);
  const existing = view.node(hello.nodeId) ?? byName;
  if (byName !== undefined && byName !== existing) {
    throw new MeshError(
      'conflict',
      `the name ${hello.name} belongs to another node (${byName.id}): start this one with another --name`,
    );
  }
  if (
    existing !== undefined &&
    existing.id !== hello.nodeId &&
    connected(existing.id) &&
    existing.underlay !== hello.underlay
  ) {
    throw new MeshError(
      'conflict',
      `a node named ${hello.name} is connected from ${existing.underlay}: start this one with another --name`,
    );
  }
  for (const other of view.nodes()) {
    if (other.id === existing?.id || other.underlay !== hello.underlay || !connected(other.id)) continue;
    throw new MeshError(
      'conflict',
      `node ${other.name} is connected with the same address ${hello.underlay}: give each node its own --advertise`,
    );
  }
  const current = {
    name: hello.name,
    role: hello.role,
    underlay: hello.underlay,
    agentVersion: hello.version,
    kernelRelease: hello.kernelRelease,
    labels: mergeLabels(hello, existing),
    declaredLabels: hello.labels,
    state: 'ready' as const,
    stateSince: existing?.state === 'ready' ? existing.stateSince : now,
    updatedAt: now,
  };
  if (existing !== undefined) return { ...existing, ...current };
  const number = allocateNodeNumber([...view.nodes()], view.networks);
  if (number === undefined) {
    throw new MeshError(
      'exhausted',
      `the ingress subnet ${ingressSubnets(view)} is exhausted: no address block left for a new node; remove nodes that no longer exist (meshctl node rm)`,
    );
  }
  return { ...current, id: newId(), version: 0, createdAt: now, number, availability: 'active' };
}

/** Applies what changed in the labels that the agent was started with; labels set with meshctl are kept. */
function mergeLabels(hello: Hello, existing: Node | undefined): Record<string, string> {
  if (existing === undefined) return hello.labels;
  const labels = { ...existing.labels };
  const declaredBefore = existing.declaredLabels ?? {};
  for (const [key, value] of Object.entries(declaredBefore)) {
    if (hello.labels[key] === undefined && labels[key] === value) delete labels[key];
  }
  for (const [key, value] of Object.entries(hello.labels)) if (declaredBefore[key] !== value) labels[key] = value;
  return labels;
}

function ingressSubnets({ networks }: ClusterView): string {
  const ingress = networks.find(({ name }) => name === INGRESS_NETWORK);
  return (ingress?.subnets ?? []).map(({ cidr }) => cidr).join(', ');
}
