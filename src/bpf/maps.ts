import type { IpAddress } from '../model/address.ts';

/** enum bpf_map_type, include/uapi/linux/bpf.h */
const BPF_MAP_TYPE_HASH = 1;
const BPF_MAP_TYPE_LRU_HASH = 9;

interface MapShape {
  type: number;
  keySize: number;
  valueSize: number;
  maxEntries: number;
}

/**
 * What the programs of one node share. The names are ours: `bpftool map` shows them, and a meshd that starts finds the
 * maps of the programs it finds by them.
 */
export const MAPS = {
  /** The fwmarks of published ports (linux-names.ts): a set, the value is unused. */
  mesh_ports: { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 1, maxEntries: 65_536 },
  /** Address of a task of this node → ifindex of the router's end of its veth. */
  mesh_tasks: { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 4, maxEntries: 4_096 },
  /** Underlay addresses of the other nodes: a set too. */
  mesh_peers: { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 1, maxEntries: 32_768 },
  /** Flow (see flow.ts) → its path: connections that last, flows of UDP, and aliases. Only programs write it. */
  mesh_flows: { type: BPF_MAP_TYPE_LRU_HASH, keySize: 16, valueSize: 8, maxEntries: 131_072 },
  /** The same for connections that are new or over: apart, so that a flood of them pushes no other out. */
  mesh_edges: { type: BPF_MAP_TYPE_LRU_HASH, keySize: 16, valueSize: 8, maxEntries: 65_536 },
} as const satisfies Record<string, MapShape>;

export type MapName = keyof typeof MAPS;

/** Instead of a node: all of this flow takes the plain path, by conntrack. */
export const FLOW_STANDARD_PATH = 0xffff_ffff;

/** As a program reads four bytes of a packet: in network order, taken as a number of a little-endian machine. */
export function addressWord(address: IpAddress): number {
  return addressBytes(address).readUInt32LE(0);
}

/** Four bytes in network order: a key of mesh_tasks. */
export function addressBytes(address: IpAddress): Buffer {
  return Buffer.from(address.split('.').map(Number));
}

export function addressOf(bytes: Uint8Array): IpAddress {
  return [...bytes].join('.');
}
