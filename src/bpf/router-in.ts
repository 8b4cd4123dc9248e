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
  type Register,
  shiftLeft,
  shiftRight,
  store,
  sub,
} from './assembler.ts';
import {
  BPF_ANY,
  BPF_NOEXIST,
  deleteFlow,
  FIN,
  FLOW_CLIENT_PORT,
  FLOW_PROTOCOL,
  FLOW_TASK,
  FLOW_VALUE,
  findFlow,
  loadCoarseTime,
  markFlowEnded,
  rewritePort,
  writeFlow,
  writeFlowKey,
} from './flow.ts';
import { FLOW_STANDARD_PATH, type MapName } from './maps.ts';
import { IPPROTO, L4, parseIpv4, parseTransport, passToStack, SKB, TCP } from './packet.ts';

/** How long a task may keep an ended connection (TCP_TIMEWAIT_LEN twice), in the shortest units of `now`. */
const CLOSED_FLOW_LIFETIME = 470;
/** Age at which a connection moves to mesh_flows, in units of `now`: most short connections never do. */
const LONG_LIVED_AGE = 2;
/** Ports tried for an alias; if all are in use, the flow takes the standard path. */
const ALIAS_ATTEMPTS = 4;
/** OR-ed to a random port in network order: the result is 32768 or above. */
const HIGH_PORT = 0x80;

/** The mark holds the number of the node that forwarded the packet, until the packet reaches the task. */
const loadNodeNumber = (to: Register) => load('u32', to, ['r6', SKB.mark]);

/**
 * On the router's vxlan0 and lb0: redirects packets to tasks of this node directly into the task, and records for each flow
 * the node that forwarded it: the mark is its number (0 is this node's own lb).
 *
 * TCP: SYN creates an entry in mesh_edges; after some seconds it moves to mesh_flows, and back when the connection is over
 * (FIN of both sides, or RST). Connections whose SYN was not seen belong to conntrack: the standard path. UDP has no
 * handshake: the first packet creates the entry; if another node forwards the same flow, both take the standard path.
 */
export function routerIn(): Program {
  return assemble('mesh_router_in', [
    ...parseIpv4(),
    ...parseTransport(),
    ...writeFlowKey('to-task'),
    mov('r8', 'r9'),
    ...lookUp('mesh_tasks', FLOW_TASK),
    jumpIf64('r0', '==', 0, 'pass'),
    load('u32', 'r9', ['r0', 0]),

    load('u32', 'r3', ['r10', FLOW_PROTOCOL]),
    jumpIf('r3', '==', IPPROTO.tcp, 'tcp'),

    ...findFlow('mesh_flows'),
    loadNodeNumber('r2'),
    jumpIf64('r0', '==', 0, 'first-of-udp'),
    load('u32', 'r1', ['r0', 0]),
    jumpIf('r1', '==', 'r2', 'to-task'),
    mov('r1', FLOW_STANDARD_PATH),
    store('u32', ['r0', 0], 'r1'),
    jump('pass'),
    label('first-of-udp'),
    store('u32', ['r10', FLOW_VALUE + 4], 0),
    ...storeFlowEntry('mesh_flows'),

    label('tcp'),
    ...findFlow('mesh_edges'),
    loadNodeNumber('r2'),
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
    ...loadCoarseTime(),
    sub('r0', 'r8'),
    jumpIf('r0', '<', LONG_LIVED_AGE, 'to-task'),
    loadNodeNumber('r2'),
    store('u32', ['r10', FLOW_VALUE], 'r2'),
    ...writeFlow('mesh_flows', BPF_ANY),
    jumpIf64('r0', '!=', 0, 'to-task'),
    ...deleteFlow('mesh_edges'),

    label('to-task'),
    mov('r2', 0),
    store('u32', ['r6', SKB.mark], 'r2'),
    mov('r1', 'r9'),
    call('redirect_peer'),
    exit(),

    label('begins-again'),
    mov('r8', 'r0'),
    ...loadCoarseTime(),
    shiftLeft('r0', FIN.bits),
    store('u32', ['r8', 4], 'r0'),
    jump('to-task'),
    ...markFlowEnded('r8', loadNodeNumber, 'client', 'to-task'),

    label('edge-of-another'),
    jumpIf('r1', '==', FLOW_STANDARD_PATH, 'alias'),
    load('u32', 'r2', ['r0', 4]),
    store('u32', ['r10', FLOW_VALUE], 'r2'),
    and('r2', FIN.both),
    jumpIf('r2', '!=', FIN.both, 'alias'),
    ...loadCoarseTime(),
    load('u32', 'r2', ['r10', FLOW_VALUE]),
    shiftRight('r2', FIN.bits),
    sub('r0', 'r2'),
    jumpIf('r0', '<', CLOSED_FLOW_LIFETIME, 'alias'),
    jump('is-new'),

    label('no-edge'),
    ...findFlow('mesh_flows'),
    jumpIf64('r0', '==', 0, 'is-new'),
    load('u32', 'r1', ['r0', 0]),
    loadNodeNumber('r2'),
    jumpIf('r1', '!=', 'r2', 'alias'),
    jumpIf('r8', '&', TCP.end, 'ends'),
    jumpIf('r8', '&', TCP.begin, 'begins-again'),
    jump('to-task'),

    label('is-new'),
    jumpIf('r8', '&', TCP.begin, 'begin'),
    jump('alias'),
    label('begin'),
    ...loadCoarseTime(),
    shiftLeft('r0', FIN.bits),
    store('u32', ['r10', FLOW_VALUE + 4], 'r0'),
    loadNodeNumber('r2'),
    ...storeFlowEntry('mesh_edges'),

    ...aliasFlow(),
    ...passToStack(),
  ]);
}

/** Stores the flow's entry with the node in r2; its second word is already at FLOW_VALUE. */
function storeFlowEntry(map: MapName): Line[] {
  return [
    store('u32', ['r10', FLOW_VALUE], 'r2'),
    ...writeFlow(map, BPF_ANY),
    // An LRU map evicts when full; if the update fails anyway, the reply takes the standard path, which then needs a conntrack entry.
    jumpIf64('r0', '==', 0, 'to-task'),
    jump('pass'),
  ];
}

/**
 * Label `alias`: a TCP segment whose client port is used by another flow to the task. Continues with its alias; a SYN
 * creates one. Other segments belong to no known flow: conntrack handles them, and the entry records that.
 */
function aliasFlow(): Line[] {
  const ofNode: Line[] = [
    loadNodeNumber('r1'),
    add('r1', 1),
    shiftLeft('r1', 16),
    or('r1', IPPROTO.tcp),
    store('u32', ['r10', FLOW_PROTOCOL], 'r1'),
  ];
  // As the task will see it: under the alias, with the client's original port above the node.
  const seenByTask: Line[] = [
    store('u32', ['r10', FLOW_PROTOCOL], IPPROTO.tcp),
    load('u16', 'r1', ['r7', L4.sourcePort]),
    shiftLeft('r1', 16),
    loadNodeNumber('r2'),
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
    // Does not replace an entry of another node's long-lived connection.
    ...findFlow('mesh_flows'),
    jumpIf64('r0', '!=', 0, 'pass'),
    mov('r1', FLOW_STANDARD_PATH),
    store('u32', ['r10', FLOW_VALUE], 'r1'),
    store('u32', ['r10', FLOW_VALUE + 4], 0),
    ...writeFlow('mesh_edges', BPF_NOEXIST),
    jump('pass'),

    label('choose'),
    ...seenByTask,
    ...Array.from({ length: ALIAS_ATTEMPTS }, (_, index) => [
      call('get_prandom_u32'),
      or('r0', HIGH_PORT),
      store('u16', ['r10', FLOW_CLIENT_PORT], 'r0'),
      ...findFlow('mesh_edges'),
      jumpIf64('r0', '!=', 0, `taken-${index}`),
      ...writeFlow('mesh_flows', BPF_NOEXIST),
      jumpIf64('r0', '==', 0, 'chosen'),
      label(`taken-${index}`),
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
