import {
  add,
  assemble,
  call,
  exit,
  jump,
  jumpIf,
  jumpIf64,
  label,
  load,
  loadMap,
  mov,
  or,
  type Program,
  store,
} from './assembler.ts';
import { FLOW_KEY, FLOW_TASK, findFlow, forgetFlow, writeFlowKey } from './flow.ts';
import { FLOW_ANSWERED, FLOW_OPENING, FLOW_PLAIN } from './maps.ts';
import { IPPROTO, onlyTcpAndUdp, parseIpv4, pass, SKB, TCP } from './packet.ts';

/**
 * On the router's vxlan0 and lb0: packets of known flows to tasks of this node go straight into the task. The mark is
 * the number of the node that brought a flow in (0 comes from this node's own lb), and has to be that of the flow: one
 * client port may arrive through several nodes at once, and only conntrack can keep those apart, so both lose the
 * shortcut.
 *
 * TCP: SYN makes the entry, the task's answer to it proves that conntrack gave the flow no other port (as it does when a
 * connection through another node, even one that is over, has the same ones), the segment behind that opens it, FIN and
 * RST end it. All of these take the plain path, so that conntrack knows every connection. One whose SYN was not seen stays
 * there. UDP has no beginning to show: its first packet makes the entry.
 */
export function routerIn(): Program {
  const node = FLOW_KEY - 4;
  return assemble('mesh_router_in', [
    ...parseIpv4(),
    ...onlyTcpAndUdp(),
    ...writeFlowKey('to-task'),
    load('u32', 'r2', ['r6', SKB.mark]),
    store('u32', ['r10', node], 'r2'),
    mov('r8', 'r9'),
    loadMap('r1', 'mesh_tasks'),
    mov('r2', 'r10'),
    add('r2', FLOW_TASK),
    call('map_lookup_elem'),
    jumpIf64('r0', '==', 0, 'pass'),
    load('u32', 'r9', ['r0', 0]),
    jumpIf('r8', '&', TCP.end, 'ends'),

    ...findFlow(),
    load('u32', 'r2', ['r10', node]),
    jumpIf64('r0', '!=', 0, 'known-flow'),
    load('u32', 'r1', ['r10', FLOW_KEY + 12]),
    jumpIf('r1', '==', IPPROTO.udp, 'remember'),
    jumpIf('r8', '&', TCP.begin, 'begin'),
    jump('pass'),
    label('begin'),
    or('r2', FLOW_OPENING),
    store('u32', ['r10', node], 'r2'),
    label('remember'),
    loadMap('r1', 'mesh_flows'),
    mov('r2', 'r10'),
    add('r2', FLOW_KEY),
    mov('r3', 'r10'),
    add('r3', node),
    mov('r4', 0),
    call('map_update_elem'),
    // Should the map be full of others, the answer takes the plain path.
    jumpIf('r8', '&', TCP.begin, 'pass'),
    jump('to-task'),

    label('known-flow'),
    load('u32', 'r1', ['r0', 0]),
    jumpIf('r1', '==', FLOW_PLAIN, 'pass'),
    mov('r3', 'r1'),
    or('r3', FLOW_OPENING | FLOW_ANSWERED),
    mov('r4', 'r2'),
    or('r4', FLOW_OPENING | FLOW_ANSWERED),
    jumpIf('r3', '==', 'r4', 'same-node'),
    mov('r1', FLOW_PLAIN),
    store('u32', ['r0', 0], 'r1'),
    jump('pass'),
    label('same-node'),
    jumpIf('r8', '&', TCP.begin, 'begin-again'),
    jumpIf('r1', '==', 'r2', 'to-task'),
    jumpIf('r1', '&', FLOW_OPENING, 'pass'),
    store('u32', ['r0', 0], 'r2'),
    jump('pass'),
    label('begin-again'),
    or('r2', FLOW_OPENING),
    store('u32', ['r0', 0], 'r2'),
    jump('pass'),

    label('to-task'),
    mov('r2', 0),
    store('u32', ['r6', SKB.mark], 'r2'),
    mov('r1', 'r9'),
    call('redirect_peer'),
    exit(),
    ...forgetFlow(),
    ...pass(),
  ]);
}
