import {
  add,
  and,
  assemble,
  call,
  exit,
  jump,
  jumpIf,
  jumpIf64,
  type Line,
  label,
  load,
  lookUp,
  mov,
  or,
  type Program,
  shiftLeft,
  shiftRight,
  store,
  sub,
} from './assembler.ts';
import {
  BPF_ANY,
  BPF_NOEXIST,
  endFlow,
  FIN,
  FLOW_CLIENT_PORT,
  FLOW_PROTOCOL,
  FLOW_TASK,
  FLOW_VALUE,
  findFlow,
  now,
  rewritePort,
  writeFlow,
  writeFlowKey,
} from './flow.ts';
import { FLOW_PLAIN, type MapName } from './maps.ts';
import { IPPROTO, L4, onlyTcpAndUdp, parseIpv4, pass, SKB, TCP } from './packet.ts';

/** How long a task may remember a connection that is over (TCP_TIMEWAIT_LEN twice), in units of `now`. */
const REMEMBERED = 112;
/** How old a connection is when it gets its place in mesh_flows, in units of `now`: most that are short never need one. */
const ESTABLISHED = 2;
/** Ports tried for an alias; the plain path takes a flow that finds none. */
const TRIES = 4;
/** Or-ed to a random port in network order: 32768 or above. */
const HIGH_PORT = 0x80;

/** The number of the node that brought the packet, at the frame's r10. */
const NODE = FLOW_VALUE - 8;

/**
 * On the router's vxlan0 and lb0: packets to tasks of this node go straight into the task, and a flow remembers the
 * node that brought it: the mark is its number (0 comes from this node's own lb).
 *
 * TCP: SYN makes an entry in mesh_edges; a connection that is two seconds old moves to mesh_flows, and back when it is
 * over, by a FIN of each side or RST. One whose SYN was not seen is conntrack's: the plain path. UDP has no beginning to
 * show: its first packet makes the entry, and if another node brings the same flow, both take the plain path.
 */
export function routerIn(): Program {
  return assemble('mesh_router_in', [
    ...parseIpv4(),
    ...onlyTcpAndUdp(),
    ...writeFlowKey('to-task'),
    load('u32', 'r2', ['r6', SKB.mark]),
    store('u32', ['r10', NODE], 'r2'),
    mov('r8', 'r9'),
    ...lookUp('mesh_tasks', FLOW_TASK),
    jumpIf64('r0', '==', 0, 'pass'),
    load('u32', 'r9', ['r0', 0]),

    ...findFlow('mesh_flows'),
    load('u32', 'r2', ['r10', NODE]),
    load('u32', 'r3', ['r10', FLOW_PROTOCOL]),
    jumpIf64('r0', '==', 0, 'unknown'),
    load('u32', 'r1', ['r0', 0]),
    jumpIf('r1', '!=', 'r2', 'of-another'),
    jumpIf('r8', '&', TCP.end, 'ends'),
    jumpIf('r8', '&', TCP.begin, 'begins-again'),

    label('to-task'),
    mov('r2', 0),
    store('u32', ['r6', SKB.mark], 'r2'),
    mov('r1', 'r9'),
    call('redirect_peer'),
    exit(),

    label('begins-again'),
    mov('r8', 'r0'),
    ...now(),
    shiftLeft('r0', FIN.bits),
    store('u32', ['r8', 4], 'r0'),
    jump('to-task'),
    ...endFlow('r8', (to) => load('u32', to, ['r10', NODE]), 'client', 'to-task'),

    label('of-another'),
    jumpIf('r3', '==', IPPROTO.tcp, 'alias'),
    mov('r1', FLOW_PLAIN),
    store('u32', ['r0', 0], 'r1'),
    jump('pass'),

    label('unknown'),
    store('u32', ['r10', FLOW_VALUE + 4], 0),
    jumpIf('r3', '==', IPPROTO.udp, 'establish'),
    ...findFlow('mesh_edges'),
    load('u32', 'r2', ['r10', NODE]),
    jumpIf64('r0', '==', 0, 'no-edge'),
    load('u32', 'r1', ['r0', 0]),
    jumpIf('r1', '!=', 'r2', 'edge-of-another'),
    jumpIf('r8', '&', TCP.end, 'edge-ends'),
    jumpIf('r8', '&', TCP.begin, 'begins-again'),
    load('u32', 'r8', ['r0', 4]),
    mov('r1', 'r8'),
    and('r1', FIN.both),
    jumpIf('r1', '==', FIN.both, 'to-task'),
    store('u32', ['r10', FLOW_VALUE + 4], 'r1'),
    shiftRight('r8', FIN.bits),
    ...now(),
    sub('r0', 'r8'),
    jumpIf('r0', '<', ESTABLISHED, 'to-task'),
    load('u32', 'r2', ['r10', NODE]),

    label('establish'),
    ...remember('mesh_flows'),

    label('edge-of-another'),
    jumpIf('r1', '==', FLOW_PLAIN, 'alias'),
    load('u32', 'r2', ['r0', 4]),
    store('u32', ['r10', FLOW_VALUE], 'r2'),
    and('r2', FIN.both),
    jumpIf('r2', '!=', FIN.both, 'alias'),
    ...now(),
    load('u32', 'r2', ['r10', FLOW_VALUE]),
    shiftRight('r2', FIN.bits),
    sub('r0', 'r2'),
    jumpIf('r0', '<', REMEMBERED, 'alias'),
    label('no-edge'),
    jumpIf('r8', '&', TCP.begin, 'begin'),
    jump('alias'),
    label('begin'),
    ...now(),
    shiftLeft('r0', FIN.bits),
    store('u32', ['r10', FLOW_VALUE + 4], 'r0'),
    load('u32', 'r2', ['r10', NODE]),
    ...remember('mesh_edges'),

    ...aliasFlow(),
    ...pass(),
  ]);
}

/** The flow's entry, of the node in r2; its second word stands at FLOW_VALUE already. */
function remember(map: MapName): Line[] {
  return [
    store('u32', ['r10', FLOW_VALUE], 'r2'),
    ...writeFlow(map, BPF_ANY),
    // An LRU map has room always; should it not, the answer takes the plain path, which must know the flow then.
    jumpIf64('r0', '==', 0, 'to-task'),
    jump('pass'),
  ];
}

/**
 * Label `alias`: a TCP segment of a flow whose port is another's for the task. Goes on with the port it has instead;
 * with SYN it is given one. Others are no flow we know: conntrack's, and remembered as such.
 */
function aliasFlow(): Line[] {
  const ofNode: Line[] = [
    load('u32', 'r1', ['r10', NODE]),
    add('r1', 1),
    shiftLeft('r1', 16),
    or('r1', IPPROTO.tcp),
    store('u32', ['r10', FLOW_PROTOCOL], 'r1'),
  ];
  // As the task will see it: under the alias, with the client's own port above the node.
  const seenByTask: Line[] = [
    store('u32', ['r10', FLOW_PROTOCOL], IPPROTO.tcp),
    load('u16', 'r1', ['r7', L4.sourcePort]),
    shiftLeft('r1', 16),
    load('u32', 'r2', ['r10', NODE]),
    or('r1', 'r2'),
    store('u32', ['r10', FLOW_VALUE], 'r1'),
    store('u32', ['r10', FLOW_VALUE + 4], 0),
  ];
  return [
    label('alias'),
    ...ofNode,
    ...findFlow('mesh_flows'),
    jumpIf64('r0', '==', 0, 'no-alias'),
    jumpIf('r8', '&', TCP.begin, 'aliased-again'),
    load('u32', 'r8', ['r0', 0]),
    jump('rewrite'),
    label('aliased-again'),
    load('u32', 'r8', ['r0', 0]),
    ...seenByTask,
    store('u16', ['r10', FLOW_CLIENT_PORT], 'r8'),
    ...writeFlow('mesh_flows', BPF_ANY),
    jump('rewrite'),

    label('no-alias'),
    jumpIf('r8', '&', TCP.begin, 'choose'),
    store('u32', ['r10', FLOW_PROTOCOL], IPPROTO.tcp),
    mov('r1', FLOW_PLAIN),
    store('u32', ['r10', FLOW_VALUE], 'r1'),
    store('u32', ['r10', FLOW_VALUE + 4], 0),
    ...writeFlow('mesh_edges', BPF_NOEXIST),
    jump('pass'),

    label('choose'),
    ...seenByTask,
    ...Array.from({ length: TRIES }, () => [
      call('get_prandom_u32'),
      or('r0', HIGH_PORT),
      store('u16', ['r10', FLOW_CLIENT_PORT], 'r0'),
      ...writeFlow('mesh_flows', BPF_NOEXIST),
      jumpIf64('r0', '==', 0, 'chosen'),
    ]).flat(),
    jump('pass'),
    label('chosen'),
    load('u16', 'r8', ['r10', FLOW_CLIENT_PORT]),
    load('u16', 'r1', ['r7', L4.sourcePort]),
    store('u16', ['r10', FLOW_CLIENT_PORT], 'r1'),
    ...ofNode,
    store('u32', ['r10', FLOW_VALUE], 'r8'),
    ...writeFlow('mesh_flows', BPF_ANY),

    label('rewrite'),
    ...rewritePort('sourcePort', 'r8'),
    jump('to-task'),
  ];
}
