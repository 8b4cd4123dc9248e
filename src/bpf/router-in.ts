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
  type Program,
  store,
} from './assembler.ts';
import { FLOW_KEY, FLOW_TASK, writeFlowKey } from './flow.ts';
import { FLOW_PLAIN } from './maps.ts';
import { IPPROTO, onlyUdpAndOngoingTcp, parseIpv4, pass, SKB } from './packet.ts';

/**
 * On the router's vxlan0 and lb0: packets of known flows to tasks of this node go straight into the task. The mark is
 * the number of the node that brought a flow in (0 comes from this node's own lb), and has to be that of the flow: one
 * client port may arrive through several nodes at once, and only conntrack can keep those apart. For TCP such a flow
 * was there first and keeps the shortcut, for UDP both lose it for good.
 */
export function routerIn(): Program {
  const node = FLOW_KEY - 4;
  return assemble('mesh_router_in', [
    ...parseIpv4(),
    ...onlyUdpAndOngoingTcp(),
    ...writeFlowKey('to-task'),
    load('u32', 'r2', ['r6', SKB.mark]),
    store('u32', ['r10', node], 'r2'),
    mov('r8', 'r3'),
    loadMap('r1', 'mesh_tasks'),
    mov('r2', 'r10'),
    add('r2', FLOW_TASK),
    call('map_lookup_elem'),
    jumpIf64('r0', '==', 0, 'pass'),
    load('u32', 'r9', ['r0', 0]),

    loadMap('r1', 'mesh_flows'),
    mov('r2', 'r10'),
    add('r2', FLOW_KEY),
    call('map_lookup_elem'),
    jumpIf64('r0', '!=', 0, 'known-flow'),
    loadMap('r1', 'mesh_flows'),
    mov('r2', 'r10'),
    add('r2', FLOW_KEY),
    mov('r3', 'r10'),
    add('r3', node),
    mov('r4', 0),
    call('map_update_elem'),
    // UDP has no beginning to show to conntrack. Should the map be full of others, the answer takes the plain path.
    jumpIf('r8', '==', IPPROTO.udp, 'to-task'),
    jump('pass'),

    label('known-flow'),
    load('u32', 'r1', ['r0', 0]),
    load('u32', 'r2', ['r10', node]),
    jumpIf('r1', '==', 'r2', 'to-task'),
    jumpIf('r8', '!=', IPPROTO.udp, 'pass'),
    mov('r1', FLOW_PLAIN),
    store('u32', ['r0', 0], 'r1'),
    jump('pass'),

    label('to-task'),
    mov('r2', 0),
    store('u32', ['r6', SKB.mark], 'r2'),
    mov('r1', 'r9'),
    call('redirect_peer'),
    exit(),
    ...pass(),
  ]);
}
