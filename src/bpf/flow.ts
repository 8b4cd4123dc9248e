import {
  add,
  and,
  call,
  jump,
  jumpIf,
  type Line,
  label,
  load,
  loadMapAndKey,
  lookUp,
  mov,
  or,
  type Register,
  shiftLeft,
  shiftRight,
  store,
} from './assembler.ts';
import type { MapName } from './maps.ts';
import { IP, L4, TCP } from './packet.ts';

/*
 * Flows, as stored in mesh_flows and mesh_edges. Key: client u32, task u32, client's port u16, task's port u16,
 * protocol u32. Value, two words:
 * - the number of the node through which the flow arrived, 0 for this one, with the client's original port in the upper
 *   half if the key uses an alias; or FLOW_PLAIN;
 * - the sides that have sent FIN; above that, in mesh_edges, the time at which the connection began, or ended if both
 *   have sent FIN (`now`).
 *
 * The same client address and port may arrive through several nodes at once, which the task cannot distinguish. The first
 * flow keeps the port and the others get an alias, as conntrack would do. An alias has two entries in mesh_flows: the flow
 * as the task sees it; and the alias port, keyed by the client's original port with node + 1 above the protocol.
 */

/** Stack offset from r10. */
const FLOW_KEY = -16;
/** The task's address within the key; also the key of mesh_tasks. */
export const FLOW_TASK = FLOW_KEY + 4;
export const FLOW_CLIENT_PORT = FLOW_KEY + 8;
export const FLOW_PROTOCOL = FLOW_KEY + 12;
/** Stack offset at which values are assembled. */
export const FLOW_VALUE = FLOW_KEY - 8;

/** Sides that have sent FIN: the lower bits of the second word, and the number of these bits. */
export const FIN = { client: 1, task: 2, both: 3, bits: 2 } as const;

/**
 * Writes the key of a packet whose protocol is in r3, for both directions; `at` is the distance of the header to read
 * from the packet's own IP header. Clobbers r2.
 */
export function writeFlowKey(direction: 'to-task' | 'from-task', at = 0): Line[] {
  const copy = (size: 'u16' | 'u32', from: number, to: number): Line[] => [
    load(size, 'r2', ['r7', at + from]),
    store(size, ['r10', FLOW_KEY + to], 'r2'),
  ];
  const fields =
    direction === 'to-task'
      ? // Not one 64-bit load: some architectures forbid unaligned access.
        [copy('u32', IP.source, 0), copy('u32', IP.destination, 4), copy('u32', L4.sourcePort, 8)]
      : [
          copy('u32', IP.destination, 0),
          copy('u32', IP.source, 4),
          copy('u16', L4.destinationPort, 8),
          copy('u16', L4.sourcePort, 10),
        ];
  return [...fields.flat(), store('u32', ['r10', FLOW_PROTOCOL], 'r3')];
}

/** r0 = pointer to the entry of the key, or 0. Clobbers r1 to r5. */
export function findFlow(map: MapName): Line[] {
  return lookUp(map, FLOW_KEY);
}

/** Update flags of include/uapi/linux/bpf.h: overwrite, or fail if the key exists. */
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;

/** Stores the value at FLOW_VALUE under the key; r0 is 0 on success. Clobbers r1 to r5. */
export function writeFlow(map: MapName, flags: number): Line[] {
  return [
    ...loadMapAndKey(map, FLOW_KEY),
    mov('r3', 'r10'),
    add('r3', FLOW_VALUE),
    mov('r4', flags),
    call('map_update_elem'),
  ];
}

/**
 * r0 = time in units of 256 jiffies: 0.26 s if the kernel's HZ is 1000, 1 s with 250, 2.6 s with 100. Jiffies are a memory
 * read; a clock source would be read for each packet of a new connection. Clobbers r1 to r5.
 */
export function loadCoarseTime(): Line[] {
  return [call('jiffies64'), shiftRight('r0', 8)];
}

/** Deletes the key from the map. Clobbers r0 to r5. */
export function deleteFlow(map: MapName): Line[] {
  return [...loadMapAndKey(map, FLOW_KEY), call('map_delete_elem')];
}

/**
 * Labels `ends` and `edge-ends`: handle FIN or RST (TCP flags in `flags`) of the flow whose entry in mesh_flows or
 * mesh_edges is in r0. After FIN from both sides or RST the connection is over and moves to mesh_edges, where its last
 * segments still find it. `node` reloads the entry's first word. Continues at `next`. Clobbers r0 to r5 and `flags`.
 */
export function markFlowEnded(
  flags: Register,
  node: (to: Register) => Line,
  from: 'client' | 'task',
  next: string,
): Line[] {
  const markSide = (closedLabel: string): Line[] => [
    jumpIf(flags, '&', TCP.reset, closedLabel),
    load('u32', 'r1', ['r0', 4]),
    or('r1', FIN[from]),
    store('u32', ['r0', 4], 'r1'),
    and('r1', FIN.both),
    jumpIf('r1', '!=', FIN.both, next),
    label(closedLabel),
  ];
  const closedAtNow = [...loadCoarseTime(), shiftLeft('r0', FIN.bits), or('r0', FIN.both)];
  return [
    label('ends'),
    ...markSide('over'),
    ...closedAtNow,
    store('u32', ['r10', FLOW_VALUE + 4], 'r0'),
    node('r1'),
    store('u32', ['r10', FLOW_VALUE], 'r1'),
    ...writeFlow('mesh_edges', BPF_ANY),
    ...deleteFlow('mesh_flows'),
    jump(next),

    label('edge-ends'),
    ...markSide('edge-over'),
    mov(flags, 'r0'),
    ...closedAtNow,
    store('u32', [flags, 4], 'r0'),
    jump(next),
  ];
}

/** Writes the port in `port` (network order) to FLOW_CLIENT_PORT and to the TCP header. Invalidates packet pointers. */
export function rewritePort(field: 'sourcePort' | 'destinationPort', port: Register): Line[] {
  return [
    store('u16', ['r10', FLOW_CLIENT_PORT], port),
    load('u16', 'r3', ['r7', L4[field]]),
    mov('r1', 'r6'),
    mov('r2', L4.tcpChecksum),
    mov('r4', port),
    mov('r5', 2),
    call('l4_csum_replace'),
    mov('r1', 'r6'),
    mov('r2', L4[field]),
    mov('r3', 'r10'),
    add('r3', FLOW_CLIENT_PORT),
    mov('r4', 2),
    mov('r5', 0),
    call('skb_store_bytes'),
  ];
}
