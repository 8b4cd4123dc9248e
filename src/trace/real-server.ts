import { FAMILY_NAMES, familyOf } from '../model/address.ts';
import { DEFAULT_DESTINATION } from '../model/block.ts';
import { acceptsFamily } from '../model/bound-socket.ts';
import { addressKey } from '../model/kinds/address.ts';
import type { RealServer } from '../model/kinds/real-server.ts';
import {
  LB_HOST_LINK,
  LB_NET_LINK,
  LB_NETNS,
  NET_LB_LINK,
  TASK_LINK,
  taskNetns,
  VXLAN_LINK,
} from '../model/linux-names.ts';
import { isLoopback } from './addresses.ts';
import { firstPacket } from './host.ts';
import { traceAnswerInHost } from './host-routes.ts';
import type { Hop, NodeState, Outcome, Packet, TraceRequest } from './packet.ts';
import { commandText, type PartialPath, REPAIR_HINT, recordPass, recordStop } from './partial-path.ts';
import { ROUTER_NETNS, traceRouter } from './router.ts';
import { findRoute } from './routing.ts';
import { traceChain, traceRoute } from './steps.ts';
import { traceTunnel } from './tunnel.ts';

/** The path from the balancer to one real server and back. */
export interface Path {
  server: RealServer;
  /** Its task, once the packet has reached the task's veth. */
  taskId?: string;
  hops: Hop[];
  outcome: Outcome;
  reason: string;
}

/** The request from the lb to a real server, and the reply back to the lb. */
export function traceServer(server: RealServer, request: TraceRequest, nodes: readonly NodeState[]): Path {
  const entry: PartialPath = { node: request.node, hops: [] };
  const packet = { ...firstPacket(request.protocol, request.client, server.address, server.port), netns: LB_NETNS };
  if (!traceForwarding(entry, server)) return { server, hops: entry.hops, ...entry.end! };
  const arrival = traceToTaskNode(entry, packet, nodes);
  const hops = [...entry.hops];
  if (arrival === undefined) return { server, hops, ...entry.end! };
  const taskId = arrival.packet.outputLink?.slice('t-'.length) ?? '';
  const taskPath: PartialPath = { node: arrival.node, hops };
  if (!traceIntoTask(taskPath, taskId, arrival.packet)) return { server, taskId, hops, ...taskPath.end! };
  const isAnswered = traceReply(taskPath, arrival.packet, request, nodes);
  if (!isAnswered) return { server, taskId, hops, ...taskPath.end! };
  return { server, taskId, hops, outcome: 'answered', reason: '' };
}

/** Masquerading rewrites the destination; with any other method the packet keeps the destination address of the lb. */
function traceForwarding(partial: PartialPath, server: RealServer): boolean {
  const { foreign = [] } = server;
  const method = foreign.find((words) => words.startsWith('forwarding '));
  if (method === undefined) {
    const limits = foreign.length === 0 ? '' : `; another program set ${foreign.join(', ')}`;
    const effect = `destination becomes ${server.address}, port ${server.port}${limits}`;
    recordPass(partial, LB_NETNS, commandText(server), effect);
    return true;
  }
  const isLocal = method === 'forwarding local';
  const effect = isLocal ? 'is delivered to the lb, which has no listener' : 'keeps its destination, which no task has';
  const reason = `another program set ${method}: the packet ${effect}. ${REPAIR_HINT}`;
  recordStop(partial, isLocal ? 'refused' : 'lost', LB_NETNS, commandText(server), reason);
  return false;
}

/** To the router of the task's node, over the underlay network if that is another node; returns the packet as it is sent to the task's veth. */
function traceToTaskNode(
  partial: PartialPath,
  start: Packet,
  nodes: readonly NodeState[],
): { node: NodeState; packet: Packet } | undefined {
  const sent = traceRoute(partial, start);
  if (sent === undefined) return undefined;
  let inRouter: Packet = { ...sent, netns: ROUTER_NETNS, inputLink: NET_LB_LINK };
  if (sent.outputLink === VXLAN_LINK) {
    const marked = traceChain(partial, { table: 'mangle', from: 'POSTROUTING' }, sent, () => false);
    if (marked === undefined) return undefined;
    const from = traceTunnel(partial, marked, ROUTER_NETNS, nodes);
    if (from === undefined) return undefined;
    inRouter = { ...marked, netns: ROUTER_NETNS, inputLink: from };
  }
  const arrived = traceRouter(partial, inRouter);
  return arrived === undefined ? undefined : { node: partial.node, packet: arrived };
}

function traceIntoTask(partial: PartialPath, taskId: string, packet: Packet): boolean {
  const { state } = partial.node;
  const netns = taskNetns(taskId);
  const prefix = familyOf(packet.destination) === 'inet' ? 32 : 128;
  const address = state.get(addressKey({ netns, dev: TASK_LINK, address: packet.destination, prefix }));
  if (address === undefined) {
    recordStop(partial, 'lost', netns, `${packet.destination} on ${TASK_LINK}`, `is missing: ${REPAIR_HINT}`);
    return false;
  }
  // Only a task with two published ports of one target has a chain.
  const arrived = traceChain(
    partial,
    { table: 'nat', from: 'PREROUTING' },
    { ...packet, netns, inputLink: TASK_LINK },
    () => true,
    'optional',
  );
  if (arrived === undefined) return false;
  recordPass(partial, netns, commandText(address), `the task sees ${packet.source} at its port ${arrived.port}`);
  return traceSocket(partial, taskId, arrived);
}

/** Whether a socket of the task accepts the packet; a node that does not report sockets is taken to have one. */
function traceSocket(partial: PartialPath, taskId: string, { protocol, destination, port }: Packet): boolean {
  const bound = partial.node.sockets?.filter(
    (one) => one.taskId === taskId && one.protocol === protocol && one.port === port,
  );
  const family = familyOf(destination);
  if (bound?.some((socket) => acceptsFamily(socket, family, [destination])) ?? true) return true;
  const others = (bound ?? []).map(({ address, v6only }) => `${address}${v6only ? ' (IPV6_V6ONLY)' : ''}`);
  const other = others.length === 0 ? '' : `, only ${[...new Set(others)].join(', ')}`;
  const reason = `no socket of the task accepts ${FAMILY_NAMES[family]} on ${port}/${protocol}${other}. See \`meshctl service ps\``;
  recordStop(partial, 'refused', taskNetns(taskId), `${port}/${protocol}`, reason);
  return false;
}

/** The reply: through the router of the task's node to the lb of the ingress node, and its host. */
function traceReply(
  partial: PartialPath,
  request: Packet,
  traceRequest: TraceRequest,
  nodes: readonly NodeState[],
): boolean {
  const reply: Packet = {
    ...request,
    source: request.destination,
    destination: request.source,
    inputLink: request.outputLink ?? '',
    mark: 0,
    answer: true,
  };
  // A connection from the ingress node itself to 127.0.0.1 has the node's overlay address as source.
  if (isLoopback(reply.destination)) return true;
  if (isInBlock(reply.destination, traceRequest.node)) {
    const reason = `stays in the overlay: ${reply.destination} is in the block of a node. Give the client another address, or use another --ingress-subnet in a new cluster`;
    recordStop(partial, 'lost', ROUTER_NETNS, 'the answer', reason);
    return false;
  }
  const sent = traceRouter(partial, reply);
  if (sent === undefined) {
    markLost(partial);
    return false;
  }
  let from: string | undefined = LB_NET_LINK;
  if (sent.outputLink === VXLAN_LINK) {
    from = traceTunnel(partial, sent, LB_NETNS, nodes);
    if (from === undefined) return false;
    if (partial.node !== traceRequest.node) {
      recordStop(
        partial,
        'lost',
        LB_NETNS,
        'the answer',
        `goes to ${partial.node.name} instead of ${traceRequest.node.name}: ${REPAIR_HINT}`,
      );
      return false;
    }
  } else if (partial.node !== traceRequest.node) {
    const reason = `stays on ${partial.node.name}: the connection lost the mark of ${traceRequest.node.name}. ${REPAIR_HINT}`;
    recordStop(partial, 'lost', ROUTER_NETNS, 'the answer', reason);
    return false;
  }
  const out = traceRoute(partial, { ...sent, netns: LB_NETNS, inputLink: from, mark: 0 });
  if (out === undefined) return false;
  if (out.outputLink !== LB_HOST_LINK) {
    recordStop(partial, 'lost', LB_NETNS, 'the answer', `does not leave by ${LB_HOST_LINK}: ${REPAIR_HINT}`);
    return false;
  }
  // IPVS reverses its translation; the host then knows the connection by the address that was called.
  return traceAnswerInHost(partial, traceRequest, { ...out, called: traceRequest.destination });
}

/** The error of a refused answer goes to the task: the client gets nothing. */
function markLost(partial: PartialPath): void {
  const last = partial.hops.at(-1);
  if (partial.end?.outcome !== 'refused' || last === undefined) return;
  last.verdict = 'lost';
  partial.end = { ...partial.end, outcome: 'lost' };
}

/** Whether the lb routes an address into the overlay, whichever network the client is really in. */
function isInBlock(address: string, { state }: NodeState): boolean {
  const found = findRoute(state, { netns: LB_NETNS, destination: address, mark: 0 });
  if (found === undefined) return false;
  const { destination, dev } = found.route;
  return dev !== LB_HOST_LINK && destination !== DEFAULT_DESTINATION[familyOf(address)];
}
