import { vtepMac } from '../model/identifiers.ts';
import {
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
  mov,
  mov32,
  or,
  type Program,
  shiftLeft,
  shiftRight,
  store,
  swap16,
} from './assembler.ts';
import { findFlow, markFlowEnded, rewritePort, writeFlowKey } from './flow.ts';
import { FLOW_STANDARD_PATH } from './maps.ts';
import {
  IP,
  IPPROTO,
  parseIpv4,
  parseQuotedPacket,
  parseTransport,
  passToStack,
  QUOTED_OFFSET,
  redirectPeer,
  SKB,
  TCP,
} from './packet.ts';

/** Stored instead of TCP flags: the packet is an ICMP error. */
const ICMP_ERROR_FLAG = 0x100;
/** The lower half of a flow's first word is the node; the upper half is the client's original port if the task sees an alias. */
const NODE_MASK = 0xffff;

/**
 * On the router's end of a task's veth: redirects replies of known flows to the node through which the flow arrived, on
 * `vxlan` with the MAC addresses that routing would use, or into this node's lb on `lb`; both are ifindexes.
 * The same for the task's ICMP errors about these flows (port unreachable). `number` is this node's.
 */
export function taskOut({ vxlan, lb, number }: { vxlan: number; lb: number; number: number }): Program {
  const source = Buffer.from(vtepMac(number).replaceAll(':', ''), 'hex');
  return assemble('mesh_task_out', [
    ...parseIpv4(),
    ...parseTransport('others'),
    ...writeFlowKey('from-task'),
    label('find'),
    jumpIf('r3', '==', IPPROTO.udp, 'no-edge'),
    ...findFlow('mesh_edges'),
    jumpIf64('r0', '==', 0, 'no-edge'),
    load('u32', 'r8', ['r0', 0]),
    jumpIf('r8', '==', FLOW_STANDARD_PATH, 'pass'),
    jumpIf('r9', '&', TCP.end, 'edge-ends'),
    jump('send'),

    label('no-edge'),
    ...findFlow('mesh_flows'),
    jumpIf64('r0', '==', 0, 'pass'),
    load('u32', 'r8', ['r0', 0]),
    jumpIf('r8', '==', FLOW_STANDARD_PATH, 'pass'),
    jumpIf('r9', '&', TCP.end | ICMP_ERROR_FLAG, 'is-more'),

    label('send'),
    mov('r2', 0),
    store('u32', ['r6', SKB.mark], 'r2'),
    mov('r3', 'r8'),
    and('r3', NODE_MASK),
    jumpIf('r3', '==', 0, 'to-lb'),
    // vtepMac(r3): four fixed bytes, then the number in network order.
    swap16('r3'),
    shiftLeft('r3', 16),
    or('r3', source.readUInt16LE(2)),
    store('u16', ['r7', 0], source.readUInt16LE(0)),
    store('u32', ['r7', 2], 'r3'),
    mov32('r3', source.readUInt32LE(0)),
    store('u32', ['r7', 6], 'r3'),
    store('u16', ['r7', 10], source.readUInt16LE(4)),
    ...restoreClientPort('over-vxlan'),
    mov('r1', vxlan),
    mov('r2', 0),
    call('redirect'),
    exit(),

    label('to-lb'),
    ...restoreClientPort('into-lb'),
    ...redirectPeer(lb),

    ...passToStack(),

    label('others'),
    jumpIf('r3', '!=', IPPROTO.icmp, 'pass'),
    ...parseQuotedPacket(),
    load('u8', 'r3', ['r7', QUOTED_OFFSET + IP.protocol]),
    ...writeFlowKey('to-task', QUOTED_OFFSET),
    mov('r9', ICMP_ERROR_FLAG),
    jump('find'),

    label('is-more'),
    jumpIf('r9', '==', ICMP_ERROR_FLAG, 'is-error'),
    // An alias stays until the LRU map evicts it: its flow has two entries, which are not counted.
    jumpIf('r8', '>', NODE_MASK, 'send'),
    jump('ends'),
    // The quoted packet has the alias, which the client does not know.
    label('is-error'),
    jumpIf('r8', '>', NODE_MASK, 'pass'),
    jump('send'),
    ...markFlowEnded('r9', (to) => mov(to, 'r8'), 'task', 'send'),
  ]);
}

/** Replaces an alias by the client's original port if the flow's first word in r8 has one; then `next`. Invalidates packet pointers. */
function restoreClientPort(next: string): Line[] {
  return [shiftRight('r8', 16), jumpIf('r8', '==', 0, next), ...rewritePort('destinationPort', 'r8'), label(next)];
}
