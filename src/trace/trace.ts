import { familyOf, type IpAddress, type Protocol } from '../model/address.ts';
import { isWithin } from '../model/block.ts';
import type { FirewallChain, KernelObject, RealServer, Vxlan } from '../model/kernel-state.ts';
import { keyOf } from '../model/kernel-state.ts';
import {
  HOST_LINK,
  HOST_NETNS,
  INGRESS_NETWORK,
  LB_HOST_LINK,
  LB_NET_LINK,
  LB_NETNS,
  NET_HOST_LINK,
  NET_LB_LINK,
  networkNetns,
  portMark,
  TASK_LINK,
  taskNetns,
  VXLAN_LINK,
} from '../model/names.ts';
import { renderObject } from '../model/render.ts';
import { evaluateChain } from './firewall.ts';
import type { Hop, NodeState, Packet } from './packet.ts';
import { findRoute, findTunnel } from './routing.ts';

export interface TraceRequest {
  client: IpAddress;
  /** The node the client sends to, and the address of it. */
  node: NodeState;
  destination: IpAddress;
  protocol: Protocol;
  port: number;
}

type Outcome = 'answered' | 'refused' | 'lost';

/** From the balancer to one real server and back. */
export interface Path {
  server: RealServer;
  /** The task behind it, once the packet got as far as its veth. */
  taskId?: string;
  hops: Hop[];
  outcome: Outcome;
  reason: string;
}

export interface Trace {
  /** Up to the balancer. */
  hops: Hop[];
  /** One for each real server that takes new connections. */
  paths: Path[];
  /** `answered` when every path is. */
  outcome: Outcome;
  /** Why not, and what to do; empty when answered. */
  reason: string;
}

const ROUTER_NETNS = networkNetns(INGRESS_NETWORK);
const REPAIR_HINT = 'meshd puts it back within seconds; if it does not, see `meshctl history` and `meshctl node ls`';

/** A way as it grows; `end` is set where the packet goes no further. */
interface PartialPath {
  node: NodeState;
  hops: Hop[];
  end?: { outcome: Exclude<Outcome, 'answered'>; reason: string };
}

/**
 * The way of the first packet of a connection to everything it may reach, and of the answers back, judged by what the
 * kernels of `nodes` held when they were dumped. Nodes that could not be asked are missing in it.
 */
export function trace(request: TraceRequest, nodes: readonly NodeState[]): Trace {
  const partial: PartialPath = { node: request.node, hops: [] };
  const servers = traceToBalancer(partial, request);
  if (servers === undefined) return { hops: partial.hops, paths: [], ...partial.end! };
  const paths = servers.map((server) => traceServer(server, request, nodes));
  const failed = paths.filter(({ outcome }) => outcome !== 'answered');
  if (failed.length === 0) return { hops: partial.hops, paths, outcome: 'answered', reason: '' };
  const share = failed.length === paths.length ? 'every' : `${failed.length} of ${paths.length}`;
  const [{ outcome, reason }] = failed as [Path];
  return { hops: partial.hops, paths, outcome, reason: `${share} real server is out of reach: ${reason}` };
}

function recordPass(partial: PartialPath, netns: string, object: string, effect: string): void {
  partial.hops.push({ node: partial.node.name, netns, object, effect, verdict: 'pass' });
}

function recordStop(
  partial: PartialPath,
  outcome: 'refused' | 'lost',
  netns: string,
  object: string,
  reason: string,
): undefined {
  partial.hops.push({ node: partial.node.name, netns, object, effect: reason, verdict: outcome });
  partial.end = { outcome, reason: `${partial.node.name}: ${reason}` };
  return undefined;
}

/** The command that makes an object, without what only a shell needs: `route 10.252.2.5/32 dev t-0a1b2c3d4e5f`. */
function commandText(object: KernelObject): string {
  const words = renderObject(object);
  // A filter needs a qdisc first, which says nothing.
  return ((object.kind === 'fast-path' ? words.at(-1) : words[0]) ?? keyOf(object))
    .replace(/^(ip netns exec \S+ )?((ip|bridge|tc)( -6)?( -n \S+)? )?/, '')
    .replace(/^(\S+) add /, '$1 ')
    .replace(/ (proto \d+|scope global)(?= |$)/g, '');
}

/** The host and the lb of the node the client sends to; the real servers that take new connections. */
function traceToBalancer(partial: PartialPath, request: TraceRequest): RealServer[] | undefined {
  const { addresses } = request.node;
  const isLocal = (address: IpAddress) => addresses.includes(address) || isLoopback(address);
  const fastPathPacket = fastPathOnHost(partial, request, isLocal);
  if (fastPathPacket !== undefined) return traceBalancer(partial, fastPathPacket);
  const translatedPacket = traceDnat(partial, request, isLocal);
  if (translatedPacket === undefined) return undefined;
  const forwardedPacket = traceForward(partial, translatedPacket, isLocal(request.client));
  if (forwardedPacket === undefined) return undefined;
  return traceBalancer(partial, { ...forwardedPacket, netns: LB_NETNS, inputLink: LB_HOST_LINK, translated: false });
}

/** The packet in the lb, when the program on the host's link takes it there. */
function fastPathOnHost(
  partial: PartialPath,
  { client, destination, protocol, port, node: { state } }: TraceRequest,
  isLocal: (address: IpAddress) => boolean,
): Packet | undefined {
  const mark = portMark(protocol, port);
  const isOpen = state.has(keyOf({ kind: 'fast-path-port', netns: HOST_NETNS, mark }));
  if (!isOpen || isLocal(client)) return undefined;
  const program = hostInProgram(state, destination);
  if (program === undefined) return undefined;
  recordPass(partial, HOST_NETNS, commandText(program), `the shortcut: on to the lb with mark 0x${mark.toString(16)}`);
  return { ...firstPacket(protocol, client, destination, port), netns: LB_NETNS, inputLink: LB_HOST_LINK, mark };
}

/** nat: the published port's DNAT, or what becomes of a packet that none is for. */
function traceDnat(
  partial: PartialPath,
  { client, destination, protocol, port, node }: TraceRequest,
  isLocal: (address: IpAddress) => boolean,
): Packet | undefined {
  const start = firstPacket(protocol, client, destination, port);
  const endpoint = `${destination}, port ${port}/${protocol}`;
  if (!isLocal(destination)) return recordStop(partial, 'lost', HOST_NETNS, endpoint, `is no address of ${node.name}`);
  const isFromHost = isLocal(client);
  const from = isFromHost ? 'OUTPUT' : 'PREROUTING';
  const translated = traceChain(partial, { table: 'nat', from }, start, isLocal);
  if (translated === undefined) return undefined;
  if (translated.translated) return translated;
  // What no DNAT is for stays in the host.
  const out = isFromHost ? traceChain(partial, { table: 'filter', from: 'OUTPUT' }, start, isLocal, 'optional') : start;
  if (out === undefined || traceChain(partial, { table: 'filter', from: 'INPUT' }, start, isLocal) === undefined) {
    return undefined;
  }
  const reason = `the mesh does not take ${port}/${protocol} there: programs of ${node.name} itself get the packet. See \`meshctl port ls\``;
  return recordStop(partial, 'refused', HOST_NETNS, endpoint, reason);
}

/** The host's route and FORWARD chain. */
function traceForward(partial: PartialPath, packet: Packet, isFromHost: boolean): Packet | undefined {
  const { state } = partial.node;
  const sent = traceRoute(partial, packet);
  if (sent === undefined) return undefined;
  const isLocal = () => false;
  if (!isFromHost) {
    const forwarding = familyOf(packet.destination) === 'inet' ? 'net.ipv4.ip_forward' : 'net.ipv6.conf.all.forwarding';
    const sysctl = state.get(keyOf({ kind: 'sysctl', netns: HOST_NETNS, name: forwarding, value: '' }));
    if (sysctl?.kind === 'sysctl' && sysctl.value !== '1') {
      return recordStop(partial, 'lost', HOST_NETNS, commandText(sysctl), `the host forwards nothing: ${REPAIR_HINT}`);
    }
    const chain = traceChain(partial, { table: 'filter', from: 'FORWARD' }, sent, isLocal);
    if (chain === undefined) return undefined;
  }
  return traceChain(partial, { table: 'nat', from: 'POSTROUTING' }, sent, isLocal, 'optional');
}

/** lb: fwmark, virtual service, real servers. */
function traceBalancer(partial: PartialPath, packet: Packet): RealServer[] | undefined {
  const { state } = partial.node;
  const marked = traceChain(partial, { table: 'mangle', from: 'PREROUTING' }, packet, () => false);
  if (marked === undefined) return undefined;
  const what = `${packet.port}/${packet.protocol}`;
  const family = familyOf(packet.destination);
  const fwmark = portMark(packet.protocol, packet.port);
  const serviceKey = { netns: LB_NETNS, family, fwmark };
  // Found by mark first; a persistent one, and SCTP's, by the address it came to.
  const byMark =
    marked.mark === 0
      ? undefined
      : state.get(keyOf({ kind: 'virtual-service', ...serviceKey, fwmark: marked.mark, scheduler: '' }));
  const service =
    byMark ?? state.get(keyOf({ kind: 'virtual-service', ...serviceKey, at: packet.destination, scheduler: '' }));
  if (service?.kind !== 'virtual-service') {
    if (packet.protocol === 'sctp') {
      return recordStop(
        partial,
        'refused',
        LB_NETNS,
        what,
        'no task of the service is ready. See `meshctl service ps`',
      );
    }
    const problem = marked.mark === 0 ? 'the port has no fwmark in the lb' : 'IPVS has no service for its fwmark';
    return recordStop(partial, 'refused', LB_NETNS, what, `${problem}: ${REPAIR_HINT}`);
  }
  const servers = [...state.values()].filter(
    (object): object is RealServer =>
      object.kind === 'real-server' &&
      object.netns === LB_NETNS &&
      object.family === family &&
      object.fwmark === service.fwmark,
  );
  const open = servers.filter(({ weight }) => weight > 0);
  const closed = servers.length - open.length;
  const draining = closed === 0 ? '' : `, ${closed} with weight 0 keep${closed === 1 ? 's' : ''} what they have`;
  if (open.length === 0) {
    const reason = `no real server takes new connections${draining}: no task of the service is ready for this node. See \`meshctl service ps\``;
    return recordStop(partial, 'refused', LB_NETNS, commandText(service), reason);
  }
  const plural = open.length === 1 ? '' : 's';
  recordPass(partial, LB_NETNS, commandText(service), `picks one of ${open.length} real server${plural}${draining}`);
  return open;
}

/** From the lb to a real server, and its answer back to the lb. */
function traceServer(server: RealServer, request: TraceRequest, nodes: readonly NodeState[]): Path {
  const entry: PartialPath = { node: request.node, hops: [] };
  const packet = { ...firstPacket(request.protocol, request.client, server.address, server.port), netns: LB_NETNS };
  recordPass(entry, LB_NETNS, commandText(server), `destination becomes ${server.address}, port ${server.port}`);
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

/** To the router of the task's node, over the wire where that is another; the packet as it leaves for the task's veth. */
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

/** mangle PREROUTING, route and filter FORWARD of a router; conntrack keeps what the chains remember. */
function traceRouter(partial: PartialPath, packet: Packet): Packet | undefined {
  const fastPathPacket = fastPathInRouter(partial, packet);
  if (fastPathPacket !== undefined) return fastPathPacket;
  const isLocal = () => false;
  const marked = traceChain(partial, { table: 'mangle', from: 'PREROUTING' }, packet, isLocal);
  if (marked === undefined) return undefined;
  const sent = traceRoute(partial, marked);
  if (sent === undefined) return undefined;
  return traceChain(partial, { table: 'filter', from: 'FORWARD' }, sent, isLocal);
}

/** The packet past the router, when the program on the link it came by takes it. */
function fastPathInRouter(partial: PartialPath, packet: Packet): Packet | undefined {
  const { state } = partial.node;
  const { inputLink: from = '', protocol, destination, connmark, mark, answer } = packet;
  const program = state.get(
    keyOf({ kind: 'fast-path', netns: ROUTER_NETNS, link: from, program: { type: 'router-in' } }),
  );
  if (program === undefined || familyOf(destination) !== 'inet' || protocol === 'sctp') return undefined;
  if (answer) {
    recordPass(partial, ROUTER_NETNS, commandText(program), 'the shortcut: back to the node that brought the flow');
    return { ...packet, outputLink: connmark === 0 ? NET_LB_LINK : VXLAN_LINK, mark: connmark };
  }
  const task = state.get(keyOf({ kind: 'fast-path-task', netns: ROUTER_NETNS, address: destination, link: '' }));
  if (task?.kind !== 'fast-path-task') return undefined;
  recordPass(
    partial,
    ROUTER_NETNS,
    commandText(program),
    'the shortcut: into the task; the flow remembers who brought it',
  );
  return { ...packet, outputLink: task.link, mark: 0, connmark: mark };
}

/** Neighbour, FDB entry and the other end, in the netns `arrives`: the link by which the packet comes in there. */
function traceTunnel(
  partial: PartialPath,
  packet: Packet,
  targetNetns: string,
  nodes: readonly NodeState[],
): string | undefined {
  const { state } = partial.node;
  const { netns } = packet;
  const found = findRoute(state, packet);
  const via = found?.route.via ?? packet.destination;
  const { neighbour, entry } = findTunnel(state, netns, VXLAN_LINK, via);
  if (neighbour === undefined)
    return recordStop(partial, 'lost', netns, `neighbour ${via}`, `is missing: ${REPAIR_HINT}`);
  recordPass(
    partial,
    netns,
    commandText(neighbour),
    targetNetns === ROUTER_NETNS ? 'the other router' : 'the other lb',
  );
  if (entry === undefined)
    return recordStop(partial, 'lost', netns, `FDB entry of ${neighbour.mac}`, `is missing: ${REPAIR_HINT}`);
  recordPass(partial, netns, commandText(entry), `into VXLAN to ${entry.dst}`);
  const device = vxlanOf(partial.node, netns);
  const other = nodes.find((node) => vxlanOf(node, targetNetns)?.local === entry.dst);
  const end = other === undefined ? undefined : vxlanOf(other, targetNetns);
  if (device === undefined || other === undefined || end === undefined) {
    const reason = `no node that could be asked has this address: it is down, cut off, or its VXLAN device is missing. See \`meshctl node ls\` and \`meshctl doctor\``;
    return recordStop(partial, 'lost', netns, `VXLAN to ${entry.dst}`, reason);
  }
  const from = partial.node;
  partial.node = other;
  const vni = entry.vni ?? device.vni;
  if (end.vni !== vni || end.port !== device.port || end.mac !== neighbour.mac || !end.up) {
    const reason = `does not fit the sender's (VNI ${vni}, port ${device.port}, MAC ${neighbour.mac}): ${REPAIR_HINT}`;
    return recordStop(partial, 'lost', targetNetns, commandText(end), reason);
  }
  const revisions =
    from.revision === other.revision
      ? ''
      : `; ${from.name} holds revision ${from.revision}, ${other.name} ${other.revision}`;
  const out = `out of VXLAN with mark 0x${packet.mark.toString(16)}${revisions}`;
  const program = decapsulationProgram(other, packet, entry.dst, device.local);
  if (program === undefined) {
    recordPass(partial, targetNetns, commandText(end), out);
    return VXLAN_LINK;
  }
  recordPass(partial, HOST_NETNS, commandText(program), `the shortcut: ${out}, into ${targetNetns}`);
  return targetNetns === ROUTER_NETNS ? NET_HOST_LINK : LB_HOST_LINK;
}

/** The program that takes packets of that node out of VXLAN before the device does: short ones, and all of UDP. */
function decapsulationProgram(
  { state }: NodeState,
  packet: Packet,
  to: IpAddress,
  sender: IpAddress,
): KernelObject | undefined {
  const isPeer = state.has(keyOf({ kind: 'fast-path-peer', netns: HOST_NETNS, address: sender }));
  if (!isPeer || familyOf(packet.destination) !== 'inet' || packet.protocol === 'sctp') return undefined;
  return hostInProgram(state, to);
}

/** What is attached where packets for this address of the host come in. */
function hostInProgram(state: NodeState['state'], address: IpAddress): KernelObject | undefined {
  return [...state.values()].find(
    (object) => object.kind === 'fast-path' && object.program?.type === 'host-in' && object.program.address === address,
  );
}

function traceIntoTask(partial: PartialPath, taskId: string, packet: Packet): boolean {
  const { state } = partial.node;
  const netns = taskNetns(taskId);
  const prefix = familyOf(packet.destination) === 'inet' ? 32 : 128;
  const address = state.get(keyOf({ kind: 'address', netns, dev: TASK_LINK, address: packet.destination, prefix }));
  if (address === undefined) {
    recordStop(partial, 'lost', netns, `${packet.destination} on ${TASK_LINK}`, `is missing: ${REPAIR_HINT}`);
    return false;
  }
  recordPass(partial, netns, commandText(address), `the task sees ${packet.source} at its port ${packet.port}`);
  return true;
}

/** The answer: through the router of the task's node to the lb of the node the client asked, and its host. */
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
  // A program of the ingress node itself comes with the node's overlay address when it used 127.0.0.1.
  if (isLoopback(reply.destination)) return true;
  const sent = traceRouter(partial, reply);
  if (sent === undefined) return false;
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
  return traceRoute(partial, { ...sent, netns: LB_NETNS, inputLink: from, mark: 0 }) !== undefined;
}

/** Runs a chain of ours; undefined when it ends the packet, or is not there and has to be. */
function traceChain(
  partial: PartialPath,
  hook: { table: FirewallChain['table']; from: string },
  packet: Packet,
  isLocal: (address: IpAddress) => boolean,
  optional?: 'optional',
): Packet | undefined {
  const result = evaluateChain(hook, packet, { state: partial.node.state, isLocal });
  const chain = `-t ${hook.table} MESH-${hook.from}`;
  if (result === undefined) {
    if (optional) return packet;
    return recordStop(
      partial,
      'lost',
      packet.netns,
      chain,
      `the chain, or the jump into it, is missing: ${REPAIR_HINT}`,
    );
  }
  const ends = result.verdict === 'drop' || result.verdict === 'reject';
  const passed = ends ? result.matchedRules.slice(0, -1) : result.matchedRules;
  for (const { rule, effect } of passed) recordPass(partial, packet.netns, `${chain} ${rule}`, effect);
  if (!ends) return result.packet;
  const last = result.matchedRules.at(-1)!;
  const outcome = result.verdict === 'drop' ? 'lost' : 'refused';
  return recordStop(partial, outcome, packet.netns, `${chain} ${last.rule}`, last.effect);
}

/** The route, and the link it leads to. */
function traceRoute(partial: PartialPath, packet: Packet): Packet | undefined {
  const found = findRoute(partial.node.state, packet);
  const { netns, destination } = packet;
  if (found === undefined)
    return recordStop(partial, 'lost', netns, `route to ${destination}`, `is missing: ${REPAIR_HINT}`);
  if (found.rule !== undefined)
    recordPass(partial, netns, commandText(found.rule), `mark 0x${packet.mark.toString(16)}`);
  recordPass(partial, netns, commandText(found.route), `leaves by ${found.route.dev}`);
  const downReason = linkError(partial.node, netns, found.route.dev);
  if (downReason !== undefined)
    return recordStop(partial, 'lost', netns, `link ${found.route.dev}`, `${downReason}: ${REPAIR_HINT}`);
  return { ...packet, outputLink: found.route.dev };
}

/** The first packet of a connection, as it comes to the host. */
function firstPacket(protocol: Protocol, source: IpAddress, destination: IpAddress, port: number): Packet {
  const untouched = { mark: 0, connmark: 0, translated: false, answer: false };
  return { protocol, source, destination, port, netns: HOST_NETNS, ...untouched };
}

function linkError({ state }: NodeState, netns: string, dev: string): string | undefined {
  for (const object of state.values()) {
    if (object.kind === 'vxlan' && object.netns === netns && object.name === dev) {
      return object.up ? undefined : 'is down';
    }
    if (object.kind !== 'veth') continue;
    const mine = object.netns === netns && object.name === dev;
    if (mine || (object.peer.netns === netns && object.peer.name === dev)) {
      return object.up && object.peer.up ? undefined : 'is down, or its other end is';
    }
  }
  return dev === HOST_LINK || dev.startsWith('t-') || dev === VXLAN_LINK ? 'is missing' : undefined;
}

function vxlanOf({ state }: NodeState, netns: string): Vxlan | undefined {
  const found = state.get(`link ${netns} ${VXLAN_LINK}`);
  return found?.kind === 'vxlan' ? found : undefined;
}

function isLoopback(address: IpAddress): boolean {
  return isWithin(address, address.includes(':') ? '::1/128' : '127.0.0.0/8');
}
