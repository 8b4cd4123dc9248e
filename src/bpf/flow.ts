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
 * Flows, as mesh_flows and mesh_edges have them. Key: client u32, task u32, client's port u16, task's port u16,
 * protocol u32. Value, two words:
 * - the node that brought the flow in, 0 for this one, with the client's real port above it where the key has an alias;
 *   or FLOW_PLAIN;
 * - who has sent its FIN; above that, in mesh_edges, when the connection began, or was over if both have (`now`).
 *
 * One client port may arrive through several nodes at once, and for the task these are one. So the first keeps the port
 * and others get an alias, as conntrack would give them. An alias is two entries of mesh_flows: the flow that the task
 * sees, and, under the client's own port and with the node plus one above the protocol, the alias' port.
 */

/** At the frame's r10. */
const FLOW_KEY = -16;
/** The task's address within it, which is the key of mesh_tasks too. */
export const FLOW_TASK = FLOW_KEY + 4;
export const FLOW_CLIENT_PORT = FLOW_KEY + 8;
export const FLOW_PROTOCOL = FLOW_KEY + 12;
/** Where a value is put together. */
export const FLOW_VALUE = FLOW_KEY - 8;

/** Who has sent its FIN: the lower bits of the second word, and how many they are. */
export const FIN = { client: 1, task: 2, both: 3, bits: 2 } as const;

/**
 * Writes the key of a packet whose protocol is in r3, seen on its way to the task or back; `at` is how far behind the
 * packet's own fields those to read are. Uses r2.
 */
export function writeFlowKey(direction: 'to-task' | 'from-task', at = 0): Line[] {
  const copy = (size: 'u16' | 'u32', from: number, to: number): Line[] => [
    load(size, 'r2', ['r7', at + from]),
    store(size, ['r10', FLOW_KEY + to], 'r2'),
  ];
  const fields =
    direction === 'to-task'
      ? // No 64 bits at once: not every architecture may read them there.
        [copy('u32', IP.source, 0), copy('u32', IP.destination, 4), copy('u32', L4.sourcePort, 8)]
      : [
          copy('u32', IP.destination, 0),
          copy('u32', IP.source, 4),
          copy('u16', L4.destinationPort, 8),
          copy('u16', L4.sourcePort, 10),
        ];
  return [...fields.flat(), store('u32', ['r10', FLOW_PROTOCOL], 'r3')];
}

/** The entry of the key into r0: a pointer to it, or 0. Uses r1 to r5. */
export function findFlow(map: MapName): Line[] {
  return lookUp(map, FLOW_KEY);
}

/** enum of include/uapi/linux/bpf.h: overwrites, or fails where there is one. */
export const BPF_ANY = 0;
export const BPF_NOEXIST = 1;

/** The value at FLOW_VALUE for the key; r0 is 0 when that worked. Uses r1 to r5. */
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
 * The time into r0, in units of 256 jiffies: 0.26 s where the kernel's HZ is 1000, 1 s with 250, 2.6 s with 100. Read from
 * memory: a clock would be asked for each packet of a connection that is new. Uses r1 to r5.
 */
export function loadCoarseTime(): Line[] {
  return [call('jiffies64'), shiftRight('r0', 8)];
}

/** Takes the key out of the map. Uses r0 to r5. */
export function deleteFlow(map: MapName): Line[] {
  return [...loadMapAndKey(map, FLOW_KEY), call('map_delete_elem')];
}

/**
 * Labels `ends` and `edge-ends`: FIN or RST, the TCP flags in `flags`, of the flow whose entry of mesh_flows or mesh_edges
 * is in r0. When both sides have ended, or one has reset it, the connection is over, and mesh_edges alone has it, where
 * its last segments find it. `node` loads the entry's first word again. Goes on to `next`. Uses r0 to r5 and `flags`.
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

/** Writes the port in `port` (network order) at FLOW_CLIENT_PORT and into the TCP header. Packet pointers are lost. */
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
