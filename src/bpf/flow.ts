import { add, call, jump, type Line, label, load, loadMap, mov, store } from './assembler.ts';
import { IP, L4 } from './packet.ts';

/** Key of mesh_flows at the frame's r10 - 16: client u32, task u32, client's port u16, task's port u16, protocol u32. */
export const FLOW_KEY = -16;
/** The task's address within it, which is the key of mesh_tasks too. */
export const FLOW_TASK = FLOW_KEY + 4;

/** Writes the key of a packet whose protocol is in r3, seen on its way to the task or back. Uses r2. */
export function writeFlowKey(way: 'to-task' | 'from-task'): Line[] {
  const there = way === 'to-task';
  const copy = (size: 'u16' | 'u32', from: number, to: number): Line[] => [
    load(size, 'r2', ['r7', from]),
    store(size, ['r10', FLOW_KEY + to], 'r2'),
  ];
  return [
    ...copy('u32', there ? IP.source : IP.destination, 0),
    ...copy('u32', there ? IP.destination : IP.source, 4),
    ...copy('u16', there ? L4.sourcePort : L4.destinationPort, 8),
    ...copy('u16', there ? L4.destinationPort : L4.sourcePort, 10),
    store('u32', ['r10', FLOW_KEY + 12], 'r3'),
  ];
}

/** The entry of the key at r10 - 16 into r0: a pointer to it, or 0. Uses r1 to r5. */
export function findFlow(): Line[] {
  return [loadMap('r1', 'mesh_flows'), mov('r2', 'r10'), add('r2', FLOW_KEY), call('map_lookup_elem')];
}

/** Label `ends`: a connection that is over has no entry, so that none leads the next one of the same ports astray. */
export function forgetFlow(): Line[] {
  return [
    label('ends'),
    loadMap('r1', 'mesh_flows'),
    mov('r2', 'r10'),
    add('r2', FLOW_KEY),
    call('map_delete_elem'),
    jump('pass'),
  ];
}
