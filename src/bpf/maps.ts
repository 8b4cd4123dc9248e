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
 * The maps that the programs of one node share. `bpftool map` shows their names, by which a restarted meshd finds the
 * maps of running programs.
 */
export const MAPS = {
  /** The fwmarks of published ports (linux-names.ts): a set, the value is unused. */
  mesh_ports: { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 1, maxEntries: 65_536 },
  /** Address of a task of this node → ifindex of the router's end of its veth. */
  mesh_tasks: { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 4, maxEntries: 4_096 },
  /** Underlay addresses of the other nodes: a set too. */
  mesh_peers: { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 1, maxEntries: 32_768 },
  /** Flow (see flow.ts) → its path: long-lived connections, flows of UDP, and aliases. Only programs write it. */
  mesh_flows: { type: BPF_MAP_TYPE_LRU_HASH, keySize: 16, valueSize: 8, maxEntries: 131_072 },
  /** The same for connections that are new or over: separate, so that a flood of them cannot evict the others. */
  mesh_edges: { type: BPF_MAP_TYPE_LRU_HASH, keySize: 16, valueSize: 8, maxEntries: 65_536 },
} as const satisfies Record<string, MapShape>;

export type MapName = keyof typeof MAPS;

/** Instead of a node: the whole flow takes the standard path, through conntrack. */
export const FLOW_STANDARD_PATH = 0xffff_ffff;

/** An address as a program reads it from a packet: four bytes in network order as a little-endian number. */
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
