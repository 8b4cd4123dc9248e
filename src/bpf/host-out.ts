import type { IpAddress } from '../model/address.ts';
import { add, assemble, call, exit, jumpIf, label, load, mov, type Program, store } from './assembler.ts';
import { addressWord } from './maps.ts';
import { IP, IPPROTO, L4, parseIpv4, passToStack, SKB } from './packet.ts';

const AF_INET = 2;
/** BPF_FIB_LKUP_RET_*, include/uapi/linux/bpf.h */
const FIB_SUCCESS = 0;
const FIB_NO_NEIGH = 7;

/** struct bpf_fib_lookup (64 bytes, the same since 4.18) on the stack. */
const LENGTH = 64;
const at = (offset: number) => ['r10', offset - LENGTH] as const;
const FIB = {
  family: at(0),
  l4Protocol: at(1),
  sport: at(2),
  dport: at(4),
  ifindex: at(8),
  tos: at(12),
  source: at(16),
  destination: at(32),
  smac: at(52),
  dmac: at(58),
} as const;

/**
 * On the host's end of the veth to the lb: replies whose source already is the node's address, because their requests
 * were redirected by `hostIn`, are sent on the link that the host's routes select. Everything else (replies that need the
 * DNAT reversed, other families, routes other than unicast) takes the standard path.
 */
export function hostOut({ address }: { address: IpAddress }): Program {
  return assemble('mesh_host_out', [
    ...parseIpv4(),
    load('u32', 'r4', ['r7', IP.source]),
    jumpIf('r4', '!=', addressWord(address), 'pass'),

    // The verifier requires that all of it is initialized: with 0 here, where the fields below do not fill eight bytes.
    // tot_len stays 0: otherwise the kernel would report that the packet exceeds the MTU, although segmentation offload
    // splits it later.
    ...[0, 24, 40, 48, 56].map((offset) => store('u64', at(offset), 0)),
    store('u8', FIB.family, AF_INET),
    load('u8', 'r3', ['r7', IP.protocol]),
    store('u8', FIB.l4Protocol, 'r3'),
    load('u8', 'r2', ['r7', IP.tos]),
    store('u32', FIB.tos, 'r2'),
    store('u64', FIB.source, 'r4'),
    load('u32', 'r2', ['r7', IP.destination]),
    store('u64', FIB.destination, 'r2'),
    load('u32', 'r9', ['r6', SKB.ingressIfindex]),
    store('u32', FIB.ifindex, 'r9'),
    jumpIf('r3', '==', IPPROTO.tcp, 'ports'),
    jumpIf('r3', '!=', IPPROTO.udp, 'resolve'),
    label('ports'),
    load('u16', 'r2', ['r7', L4.sourcePort]),
    store('u16', FIB.sport, 'r2'),
    load('u16', 'r2', ['r7', L4.destinationPort]),
    store('u16', FIB.dport, 'r2'),

    label('resolve'),
    mov('r1', 'r6'),
    mov('r2', 'r10'),
    add('r2', -LENGTH),
    mov('r3', LENGTH),
    mov('r4', 0),
    call('fib_lookup'),
    load('u32', 'r1', FIB.ifindex),
    // The route leads back into the lb: left to the standard path.
    jumpIf('r1', '==', 'r9', 'pass'),
    jumpIf('r0', '==', FIB_NO_NEIGH, 'no-neighbour'),
    jumpIf('r0', '!=', FIB_SUCCESS, 'pass'),
    load('u16', 'r2', FIB.dmac),
    store('u16', ['r7', 0], 'r2'),
    load('u32', 'r2', ['r10', 60 - LENGTH]),
    store('u32', ['r7', 2], 'r2'),
    load('u32', 'r2', FIB.smac),
    store('u32', ['r7', 6], 'r2'),
    load('u16', 'r2', ['r10', 56 - LENGTH]),
    store('u16', ['r7', 10], 'r2'),
    mov('r2', 0),
    call('redirect'),
    exit(),

    // The kernel resolves the neighbour and queues the packet until then.
    label('no-neighbour'),
    mov('r2', 0),
    mov('r3', 0),
    mov('r4', 0),
    call('redirect_neigh'),
    exit(),
    ...passToStack(),
  ]);
}
