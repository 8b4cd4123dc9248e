import ipaddr from 'ipaddr.js';
import { MeshError } from '../../base/errors.ts';
import { familyOf, type IpAddress } from '../../model/address.ts';
import type { Node } from '../../model/cluster.ts';
import { isTerminal } from '../../model/task-state.ts';
import type { TraceRequest } from '../../rpc/messages.ts';
import type { NodeState } from '../../trace/packet.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { findNode } from './find.ts';

/** The start of a trace: its addresses, and the kernel of the node that the client connects to. */
export interface TraceEnds {
  client: IpAddress;
  destination: IpAddress;
  node: NodeState;
}

/**
 * Nodes whose kernels decide over the packet: the one it enters, and those of the tasks of the port. All ready nodes when
 * `node` is an address that no node uses as its underlay address: any of them may have it. Throws as findNode.
 */
export function involvedNodes(request: TraceRequest, index: ClusterIndex): Node[] {
  const { node: reference } = request;
  const nodes = [...index.nodes()];
  const entry = nodes.find(({ underlay }) => underlay === reference) ?? nodeUnlessAddress(reference, index);
  if (entry === undefined) return nodes.filter(({ state }) => state === 'ready');
  const taskNodes = [...new Set(tracedTargets(request, index).map(({ serviceId }) => serviceId))]
    .flatMap((id) => index.tasksOfService(id))
    .filter(({ status }) => !isTerminal(status.state))
    .flatMap(({ nodeId }) => (nodeId === undefined ? [] : (index.node(nodeId) ?? [])))
    .filter(({ state }) => state === 'ready');
  return [...new Set([entry, ...taskNodes])];
}

/** The services that offer the traced port, also while it drains, with its target in their tasks. */
export function tracedTargets(
  { protocol, port }: Pick<TraceRequest, 'protocol' | 'port'>,
  index: ClusterIndex,
): { serviceId: string; port: number }[] {
  return [...index.services()].flatMap(({ id: serviceId, spec, leaving = [] }) => {
    const offered = [...spec.ports, ...leaving.map((draining) => draining.port)].filter(
      (one) => one.protocol === protocol,
    );
    const isPicked = (target: number) =>
      index
        .tasksOfService(serviceId)
        .some(({ status }) =>
          status.ports?.some((one) => one.published === port && one.target === target && one.protocol === protocol),
        );
    return offered
      .filter(({ published, target }) => (published === undefined ? isPicked(target) : published === port))
      .map(({ target }) => ({ serviceId, port: target }));
  });
}

/** `states`: kernels of the nodes that answered. Throws MeshError `not-found`, `unavailable`, or as findNode. */
export function resolveEnds(
  { client: clientReference, node: reference }: TraceRequest,
  states: readonly NodeState[],
  index: ClusterIndex,
): TraceEnds {
  const isLocal = clientReference === 'localhost';
  const client = isLocal ? undefined : (canonicalAddress(clientReference) ?? findNode(index, clientReference).underlay);
  const { node, destination } = resolveDestination(reference, client, states, index);
  if (client !== undefined) return { client, node, destination };
  return { client: '127.0.0.1', node, destination: '127.0.0.1' };
}

/** The node that `text` refers to, and its address that a client of that family connects to. */
function resolveDestination(
  reference: string,
  client: IpAddress | undefined,
  states: readonly NodeState[],
  index: ClusterIndex,
): { node: NodeState; destination: IpAddress } {
  const named = nodeUnlessAddress(reference, index);
  if (named === undefined) {
    const address = canonicalAddress(reference)!;
    const owner = states.find(({ addresses }) => addresses.includes(address));
    if (owner !== undefined) return { node: owner, destination: address };
    throw new MeshError('not-found', `no node has the address ${reference}; see meshctl node ls`);
  }
  const node = states.find(({ nodeId }) => nodeId === named.id);
  if (node === undefined) {
    throw new MeshError('unavailable', `${named.name} did not report its kernel objects; see meshctl node ls`);
  }
  const { underlay } = named;
  if (client === undefined || familyOf(client) === familyOf(underlay)) return { node, destination: underlay };
  const destination = node.addresses.find((one) => familyOf(one) === familyOf(client) && isGlobal(one));
  if (destination !== undefined) return { node, destination };
  throw new MeshError('not-found', `${node.name} has no ${familyOf(client)} address that ${client} can reach`);
}

/** Undefined for an address, which may be any of a node's; throws as findNode for a name or id of no node. */
function nodeUnlessAddress(reference: string, index: ClusterIndex): Node | undefined {
  return canonicalAddress(reference) === undefined ? findNode(index, reference) : undefined;
}

/** ipaddr.js accepts octal and short forms of IPv4, too; only four decimal parts are an address here. */
function canonicalAddress(text: string): IpAddress | undefined {
  if (!text.includes(':')) return ipaddr.IPv4.isValidFourPartDecimal(text) ? text : undefined;
  return ipaddr.IPv6.isValid(text) ? ipaddr.IPv6.parse(text).toRFC5952String() : undefined;
}

function isGlobal(address: IpAddress): boolean {
  const range = ipaddr.parse(address).range();
  return range !== 'loopback' && range !== 'linkLocal';
}
