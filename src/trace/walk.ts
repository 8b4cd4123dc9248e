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
import { judge } from './firewall.ts';
import type { Hop, NodeState, Packet } from './packet.ts';
import { findRoute, findTunnel } from './routing.ts';

export interface Question {
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

const ROUTER = networkNetns(INGRESS_NETWORK);
const REPAIR = 'meshd puts it back within seconds; if it does not, see `meshctl history` and `meshctl node ls`';

/** A way as it grows; `end` is set where the packet goes no further. */
interface Way {
  node: NodeState;
  hops: Hop[];
  end?: { outcome: Exclude<Outcome, 'answered'>; reason: string };
}

/**
 * The way of the first packet of a connection to everything it may reach, and of the answers back, judged by what the
 * kernels of `nodes` held when they were dumped. Nodes that could not be asked are missing in it.
 */
export function trace(question: Question, nodes: readonly NodeState[]): Trace {
  const way: Way = { node: question.node, hops: [] };
  const servers = toBalancer(way, question);
  if (servers === undefined) return { hops: way.hops, paths: [], ...way.end! };
  const paths = servers.map((server) => path(server, question, nodes));
  const failed = paths.filter(({ outcome }) => outcome !== 'answered');
  if (failed.length === 0) return { hops: way.hops, paths, outcome: 'answered', reason: '' };
  const share = failed.length === paths.length ? 'every' : `${failed.length} of ${paths.length}`;
  const [{ outcome, reason }] = failed as [Path];
  return { hops: way.hops, paths, outcome, reason: `${share} real server is out of reach: ${reason}` };
}

function pass(way: Way, netns: string, object: string, effect: string): void {
  way.hops.push({ node: way.node.name, netns, object, effect, verdict: 'pass' });
}

function stop(way: Way, outcome: 'refused' | 'lost', netns: string, object: string, reason: string): undefined {
  way.hops.push({ node: way.node.name, netns, object, effect: reason, verdict: outcome });
  way.end = { outcome, reason: `${way.node.name}: ${reason}` };
  return undefined;
}

/** The command that makes an object, without what only a shell needs: `route 10.252.2.5/32 dev t-0a1b2c3d4e5f`. */
function commandOf(object: KernelObject): string {
  const words = renderObject(object);
  // A filter needs a qdisc first, which says nothing.
  return ((object.kind === 'shortcut' ? words.at(-1) : words[0]) ?? keyOf(object))
    .replace(/^(ip netns exec \S+ )?((ip|bridge|tc)( -6)?( -n \S+)? )?/, '')
    .replace(/^(\S+) add /, '$1 ')
    .replace(/ (proto \d+|scope global)(?= |$)/g, '');
}

/** The host and the lb of the node the client sends to; the real servers that take new connections. */
function toBalancer(way: Way, question: Question): RealServer[] | undefined {
  const { addresses } = question.node;
  const isLocal = (address: IpAddress) => addresses.includes(address) || isLoopback(address);
  const short = shortcut(way, question, isLocal);
  if (short !== undefined) return balance(way, short);
  const inHost = translate(way, question, isLocal);
  if (inHost === undefined) return undefined;
  const towardsLb = forward(way, inHost, isLocal(question.client));
  if (towardsLb === undefined) return undefined;
  return balance(way, { ...towardsLb, netns: LB_NETNS, from: LB_HOST_LINK, translated: false });
}

/** The packet in the lb, when the program on the host's link takes it there. */
function shortcut(
  way: Way,
  { client, destination, protocol, port, node: { state } }: Question,
  isLocal: (address: IpAddress) => boolean,
): Packet | undefined {
  const mark = portMark(protocol, port);
  const isOpen = state.has(keyOf({ kind: 'shortcut-port', netns: HOST_NETNS, mark }));
  if (!isOpen || isLocal(client)) return undefined;
  const program = hostProgram(state, destination);
  if (program === undefined) return undefined;
  pass(way, HOST_NETNS, commandOf(program), `the shortcut: on to the lb with mark 0x${mark.toString(16)}`);
  return { ...packetOf(protocol, client, destination, port), netns: LB_NETNS, from: LB_HOST_LINK, mark };
}

/** nat: the published port's DNAT, or what becomes of a packet that none is for. */
function translate(
  way: Way,
  { client, destination, protocol, port, node }: Question,
  isLocal: (address: IpAddress) => boolean,
): Packet | undefined {
  const start = packetOf(protocol, client, destination, port);
  const where = `${destination}, port ${port}/${protocol}`;
  if (!isLocal(destination)) return stop(way, 'lost', HOST_NETNS, where, `is no address of ${node.name}`);
  const ownProgram = isLocal(client);
  const from = ownProgram ? 'OUTPUT' : 'PREROUTING';
  const translated = firewall(way, { table: 'nat', from }, start, isLocal);
  if (translated === undefined) return undefined;
  if (translated.translated) return translated;
  // What no DNAT is for stays in the host.
  const out = ownProgram ? firewall(way, { table: 'filter', from: 'OUTPUT' }, start, isLocal, 'optional') : start;
  if (out === undefined || firewall(way, { table: 'filter', from: 'INPUT' }, start, isLocal) === undefined) {
    return undefined;
  }
  const reason = `the mesh does not take ${port}/${protocol} there: programs of ${node.name} itself get the packet. See \`meshctl port ls\``;
  return stop(way, 'refused', HOST_NETNS, where, reason);
}

/** The host's route and FORWARD chain. */
function forward(way: Way, packet: Packet, ownProgram: boolean): Packet | undefined {
  const { state } = way.node;
  const sent = routed(way, packet);
  if (sent === undefined) return undefined;
  const isLocal = () => false;
  if (!ownProgram) {
    const forwarding = familyOf(packet.destination) === 'inet' ? 'net.ipv4.ip_forward' : 'net.ipv6.conf.all.forwarding';
    const sysctl = state.get(keyOf({ kind: 'sysctl', netns: HOST_NETNS, name: forwarding, value: '' }));
    if (sysctl?.kind === 'sysctl' && sysctl.value !== '1') {
      return stop(way, 'lost', HOST_NETNS, commandOf(sysctl), `the host forwards nothing: ${REPAIR}`);
    }
    const chain = firewall(way, { table: 'filter', from: 'FORWARD' }, sent, isLocal);
    if (chain === undefined) return undefined;
  }
  return firewall(way, { table: 'nat', from: 'POSTROUTING' }, sent, isLocal, 'optional');
}

/** lb: fwmark, virtual service, real servers. */
function balance(way: Way, packet: Packet): RealServer[] | undefined {
  const { state } = way.node;
  const marked = firewall(way, { table: 'mangle', from: 'PREROUTING' }, packet, () => false);
  if (marked === undefined) return undefined;
  const what = `${packet.port}/${packet.protocol}`;
  const family = familyOf(packet.destination);
  const fwmark = portMark(packet.protocol, packet.port);
  const place = { netns: LB_NETNS, family, fwmark };
  // Found by mark first; a persistent one, and SCTP's, by the address it came to.
  const byMark =
    marked.mark === 0
      ? undefined
      : state.get(keyOf({ kind: 'virtual-service', ...place, fwmark: marked.mark, scheduler: '' }));
  const service =
    byMark ?? state.get(keyOf({ kind: 'virtual-service', ...place, at: packet.destination, scheduler: '' }));
  if (service?.kind !== 'virtual-service') {
    if (packet.protocol === 'sctp') {
      return stop(way, 'refused', LB_NETNS, what, 'no task of the service is ready. See `meshctl service ps`');
    }
    const problem = marked.mark === 0 ? 'the port has no fwmark in the lb' : 'IPVS has no service for its fwmark';
    return stop(way, 'refused', LB_NETNS, what, `${problem}: ${REPAIR}`);
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
    return stop(way, 'refused', LB_NETNS, commandOf(service), reason);
  }
  const plural = open.length === 1 ? '' : 's';
  pass(way, LB_NETNS, commandOf(service), `picks one of ${open.length} real server${plural}${draining}`);
  return open;
}

/** From the lb to a real server, and its answer back to the lb. */
function path(server: RealServer, question: Question, nodes: readonly NodeState[]): Path {
  const entry: Way = { node: question.node, hops: [] };
  const packet = { ...packetOf(question.protocol, question.client, server.address, server.port), netns: LB_NETNS };
  pass(entry, LB_NETNS, commandOf(server), `destination becomes ${server.address}, port ${server.port}`);
  const there = reach(entry, packet, nodes);
  const hops = [...entry.hops];
  if (there === undefined) return { server, hops, ...entry.end! };
  const taskId = there.packet.to?.slice('t-'.length) ?? '';
  const task: Way = { node: there.node, hops };
  if (!enterTask(task, taskId, there.packet)) return { server, taskId, hops, ...task.end! };
  const back = comeBack(task, there.packet, question, nodes);
  if (!back) return { server, taskId, hops, ...task.end! };
  return { server, taskId, hops, outcome: 'answered', reason: '' };
}

/** To the router of the task's node, over the wire where that is another; the packet as it leaves for the task's veth. */
function reach(way: Way, start: Packet, nodes: readonly NodeState[]): { node: NodeState; packet: Packet } | undefined {
  const sent = routed(way, start);
  if (sent === undefined) return undefined;
  let inRouter: Packet = { ...sent, netns: ROUTER, from: NET_LB_LINK };
  if (sent.to === VXLAN_LINK) {
    const marked = firewall(way, { table: 'mangle', from: 'POSTROUTING' }, sent, () => false);
    if (marked === undefined) return undefined;
    const from = overTheWire(way, marked, ROUTER, nodes);
    if (from === undefined) return undefined;
    inRouter = { ...marked, netns: ROUTER, from };
  }
  const arrived = throughRouter(way, inRouter);
  return arrived === undefined ? undefined : { node: way.node, packet: arrived };
}

/** mangle PREROUTING, route and filter FORWARD of a router; conntrack keeps what the chains remember. */
function throughRouter(way: Way, packet: Packet): Packet | undefined {
  const short = shortcutInside(way, packet);
  if (short !== undefined) return short;
  const isLocal = () => false;
  const marked = firewall(way, { table: 'mangle', from: 'PREROUTING' }, packet, isLocal);
  if (marked === undefined) return undefined;
  const sent = routed(way, marked);
  if (sent === undefined) return undefined;
  return firewall(way, { table: 'filter', from: 'FORWARD' }, sent, isLocal);
}

/** The packet past the router, when the program on the link it came by takes it. */
function shortcutInside(way: Way, packet: Packet): Packet | undefined {
  const { state } = way.node;
  const { from = '', protocol, destination, connmark, mark, answer } = packet;
  const program = state.get(keyOf({ kind: 'shortcut', netns: ROUTER, link: from, program: { type: 'router-in' } }));
  if (program === undefined || familyOf(destination) !== 'inet' || protocol === 'sctp') return undefined;
  if (answer) {
    pass(way, ROUTER, commandOf(program), 'the shortcut: back to the node that brought the flow');
    return { ...packet, to: connmark === 0 ? NET_LB_LINK : VXLAN_LINK, mark: connmark };
  }
  const task = state.get(keyOf({ kind: 'shortcut-task', netns: ROUTER, address: destination, link: '' }));
  if (task?.kind !== 'shortcut-task') return undefined;
  pass(way, ROUTER, commandOf(program), 'the shortcut: into the task; the flow remembers who brought it');
  return { ...packet, to: task.link, mark: 0, connmark: mark };
}

/** Neighbour, FDB entry and the other end, in the netns `arrives`: the link by which the packet comes in there. */
function overTheWire(way: Way, packet: Packet, arrives: string, nodes: readonly NodeState[]): string | undefined {
  const { state } = way.node;
  const { netns } = packet;
  const found = findRoute(state, packet);
  const via = found?.route.via ?? packet.destination;
  const { neighbour, entry } = findTunnel(state, netns, VXLAN_LINK, via);
  if (neighbour === undefined) return stop(way, 'lost', netns, `neighbour ${via}`, `is missing: ${REPAIR}`);
  pass(way, netns, commandOf(neighbour), arrives === ROUTER ? 'the other router' : 'the other lb');
  if (entry === undefined) return stop(way, 'lost', netns, `FDB entry of ${neighbour.mac}`, `is missing: ${REPAIR}`);
  pass(way, netns, commandOf(entry), `into VXLAN to ${entry.dst}`);
  const device = vxlanOf(way.node, netns);
  const other = nodes.find((node) => vxlanOf(node, arrives)?.local === entry.dst);
  const end = other === undefined ? undefined : vxlanOf(other, arrives);
  if (device === undefined || other === undefined || end === undefined) {
    const reason = `no node that could be asked has this address: it is down, cut off, or its VXLAN device is missing. See \`meshctl node ls\` and \`meshctl doctor\``;
    return stop(way, 'lost', netns, `VXLAN to ${entry.dst}`, reason);
  }
  const from = way.node;
  way.node = other;
  const vni = entry.vni ?? device.vni;
  if (end.vni !== vni || end.port !== device.port || end.mac !== neighbour.mac || !end.up) {
    const reason = `does not fit the sender's (VNI ${vni}, port ${device.port}, MAC ${neighbour.mac}): ${REPAIR}`;
    return stop(way, 'lost', arrives, commandOf(end), reason);
  }
  const revisions =
    from.revision === other.revision
      ? ''
      : `; ${from.name} holds revision ${from.revision}, ${other.name} ${other.revision}`;
  const out = `out of VXLAN with mark 0x${packet.mark.toString(16)}${revisions}`;
  const program = unpacks(other, packet, entry.dst, device.local);
  if (program === undefined) {
    pass(way, arrives, commandOf(end), out);
    return VXLAN_LINK;
  }
  pass(way, HOST_NETNS, commandOf(program), `the shortcut: ${out}, into ${arrives}`);
  return arrives === ROUTER ? NET_HOST_LINK : LB_HOST_LINK;
}

/** The program that takes packets of that node out of VXLAN before the device does: short ones, and all of UDP. */
function unpacks({ state }: NodeState, packet: Packet, to: IpAddress, sender: IpAddress): KernelObject | undefined {
  const isPeer = state.has(keyOf({ kind: 'shortcut-peer', netns: HOST_NETNS, address: sender }));
  if (!isPeer || familyOf(packet.destination) !== 'inet' || packet.protocol === 'sctp') return undefined;
  return hostProgram(state, to);
}

/** What is attached where packets for this address of the host come in. */
function hostProgram(state: NodeState['state'], address: IpAddress): KernelObject | undefined {
  return [...state.values()].find(
    (object) => object.kind === 'shortcut' && object.program.type === 'host-in' && object.program.address === address,
  );
}

function enterTask(way: Way, taskId: string, packet: Packet): boolean {
  const { state } = way.node;
  const netns = taskNetns(taskId);
  const prefix = familyOf(packet.destination) === 'inet' ? 32 : 128;
  const address = state.get(keyOf({ kind: 'address', netns, dev: TASK_LINK, address: packet.destination, prefix }));
  if (address === undefined) {
    stop(way, 'lost', netns, `${packet.destination} on ${TASK_LINK}`, `is missing: ${REPAIR}`);
    return false;
  }
  pass(way, netns, commandOf(address), `the task sees ${packet.source} at its port ${packet.port}`);
  return true;
}

/** The answer: through the router of the task's node to the lb of the node the client asked, and its host. */
function comeBack(way: Way, request: Packet, question: Question, nodes: readonly NodeState[]): boolean {
  const answer: Packet = {
    ...request,
    source: request.destination,
    destination: request.source,
    from: request.to ?? '',
    mark: 0,
    answer: true,
  };
  // A program of the ingress node itself comes with the node's overlay address when it used 127.0.0.1.
  if (isLoopback(answer.destination)) return true;
  const sent = throughRouter(way, answer);
  if (sent === undefined) return false;
  let from: string | undefined = LB_NET_LINK;
  if (sent.to === VXLAN_LINK) {
    from = overTheWire(way, sent, LB_NETNS, nodes);
    if (from === undefined) return false;
    if (way.node !== question.node) {
      stop(way, 'lost', LB_NETNS, 'the answer', `goes to ${way.node.name} instead of ${question.node.name}: ${REPAIR}`);
      return false;
    }
  } else if (way.node !== question.node) {
    const reason = `stays on ${way.node.name}: the connection lost the mark of ${question.node.name}. ${REPAIR}`;
    stop(way, 'lost', ROUTER, 'the answer', reason);
    return false;
  }
  return routed(way, { ...sent, netns: LB_NETNS, from, mark: 0 }) !== undefined;
}

/** Runs a chain of ours; undefined when it ends the packet, or is not there and has to be. */
function firewall(
  way: Way,
  hook: { table: FirewallChain['table']; from: string },
  packet: Packet,
  isLocal: (address: IpAddress) => boolean,
  optional?: 'optional',
): Packet | undefined {
  const judged = judge(hook, packet, { state: way.node.state, isLocal });
  const chain = `-t ${hook.table} MESH-${hook.from}`;
  if (judged === undefined) {
    if (optional) return packet;
    return stop(way, 'lost', packet.netns, chain, `the chain, or the jump into it, is missing: ${REPAIR}`);
  }
  const ends = judged.verdict === 'drop' || judged.verdict === 'reject';
  const passed = ends ? judged.met.slice(0, -1) : judged.met;
  for (const { rule, effect } of passed) pass(way, packet.netns, `${chain} ${rule}`, effect);
  if (!ends) return judged.packet;
  const last = judged.met.at(-1)!;
  const outcome = judged.verdict === 'drop' ? 'lost' : 'refused';
  return stop(way, outcome, packet.netns, `${chain} ${last.rule}`, last.effect);
}

/** The route, and the link it leads to. */
function routed(way: Way, packet: Packet): Packet | undefined {
  const found = findRoute(way.node.state, packet);
  const { netns, destination } = packet;
  if (found === undefined) return stop(way, 'lost', netns, `route to ${destination}`, `is missing: ${REPAIR}`);
  if (found.rule !== undefined) pass(way, netns, commandOf(found.rule), `mark 0x${packet.mark.toString(16)}`);
  pass(way, netns, commandOf(found.route), `leaves by ${found.route.dev}`);
  const down = linkProblem(way.node, netns, found.route.dev);
  if (down !== undefined) return stop(way, 'lost', netns, `link ${found.route.dev}`, `${down}: ${REPAIR}`);
  return { ...packet, to: found.route.dev };
}

/** The first packet of a connection, as it comes to the host. */
function packetOf(protocol: Protocol, source: IpAddress, destination: IpAddress, port: number): Packet {
  const untouched = { mark: 0, connmark: 0, translated: false, answer: false };
  return { protocol, source, destination, port, netns: HOST_NETNS, ...untouched };
}

function linkProblem({ state }: NodeState, netns: string, dev: string): string | undefined {
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
