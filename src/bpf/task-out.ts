import { vtepMac } from '../model/names.ts';
import {
  assemble,
  call,
  exit,
  jump,
  jumpIf,
  jumpIf64,
  label,
  load,
  mov,
  mov32,
  or,
  type Program,
  shiftLeft,
  store,
  swap16,
  xor,
} from './assembler.ts';
import { findFlow, forgetFlow, writeFlowKey } from './flow.ts';
import { FLOW_ANSWERED, FLOW_OPENING, FLOW_PLAIN } from './maps.ts';
import { onlyTcpAndUdp, parseIpv4, pass, SKB, TCP } from './packet.ts';

/**
 * On the router's end of a task's veth: answers of known flows go back to the node that brought the flow in, by `vxlan`
 * with the frame's addresses that routing would have found, or into this node's lb by `lb`; both are ifindexes.
 * `number` is this node's.
 */
export function taskOut({ vxlan, lb, number }: { vxlan: number; lb: number; number: number }): Program {
  const source = Buffer.from(vtepMac(number).replaceAll(':', ''), 'hex');
  return assemble('mesh_task_out', [
    ...parseIpv4(),
    ...onlyTcpAndUdp(),
    ...writeFlowKey('from-task'),
    jumpIf('r9', '&', TCP.end, 'ends'),
    ...findFlow(),
    jumpIf64('r0', '==', 0, 'pass'),
    load('u32', 'r3', ['r0', 0]),
    jumpIf('r9', '&', TCP.begin, 'answer'),
    // Set in FLOW_PLAIN too.
    jumpIf('r3', '&', FLOW_OPENING | FLOW_ANSWERED, 'pass'),
    mov('r2', 0),
    store('u32', ['r6', SKB.mark], 'r2'),
    jumpIf('r3', '==', 0, 'to-lb'),

    // vtepMac(r3): two fixed bytes, then two fixed ones with the number in network order behind them.
    swap16('r3'),
    shiftLeft('r3', 16),
    or('r3', source.readUInt16LE(2)),
    store('u16', ['r7', 0], source.readUInt16LE(0)),
    store('u32', ['r7', 2], 'r3'),
    mov32('r3', source.readUInt32LE(0)),
    store('u32', ['r7', 6], 'r3'),
    store('u16', ['r7', 10], source.readUInt16LE(4)),
    mov('r1', vxlan),
    call('redirect'),
    exit(),

    label('to-lb'),
    mov('r1', lb),
    call('redirect_peer'),
    exit(),

    label('answer'),
    jumpIf('r3', '==', FLOW_PLAIN, 'pass'),
    jumpIf('r3', '&', FLOW_OPENING, 'answered'),
    jump('pass'),
    label('answered'),
    xor('r3', FLOW_OPENING | FLOW_ANSWERED),
    store('u32', ['r0', 0], 'r3'),
    jump('pass'),

    ...forgetFlow(),
    ...pass(),
  ]);
}
