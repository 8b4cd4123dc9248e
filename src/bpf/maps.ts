import type { IpAddress, Protocol } from '../model/address.ts';
import { markedPort, portMark } from '../model/names.ts';

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
  /** `portIndex` → fwmark of the published port. No array: an audit reads all of it every three seconds. */
  mesh_ports: { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 4, maxEntries: 65_536 },
  /** Address of a task of this node → ifindex of the router's end of its veth. */
  mesh_tasks: { type: BPF_MAP_TYPE_HASH, keySize: 4, valueSize: 4, maxEntries: 4_096 },
  /** Flow (see flow.ts) → how it goes: connections that last, flows of UDP, and aliases. Only programs write it. */
  mesh_flows: { type: BPF_MAP_TYPE_LRU_HASH, keySize: 16, valueSize: 8, maxEntries: 131_072 },
  /** The same for connections that are new or over: apart, so that a flood of them pushes no other out. */
  mesh_edges: { type: BPF_MAP_TYPE_LRU_HASH, keySize: 16, valueSize: 8, maxEntries: 65_536 },
} as const satisfies Record<string, MapShape>;

export type MapName = keyof typeof MAPS;

/** Instead of a node: all of this flow takes the plain path, by conntrack. */
export const FLOW_PLAIN = 0xffff_ffff;

/** Where UDP begins in mesh_ports. */
export const UDP_PORTS = 65_536;

/** Place of a port in mesh_ports; undefined for protocols that have no shortcut. */
function portIndex(protocol: Protocol, port: number): number | undefined {
  if (protocol === 'sctp') return undefined;
  return protocol === 'udp' ? UDP_PORTS + port : port;
}

/** Place in mesh_ports of the port that a fwmark stands for. */
export function indexOfMark(mark: number): number | undefined {
  const port = markedPort(mark);
  return port && portIndex(port.protocol, port.published);
}

/** The fwmark that belongs at a place of mesh_ports; undefined where no port has its place. */
export function markAtIndex(index: number): number | undefined {
  if (index >= 2 * UDP_PORTS) return undefined;
  return index >= UDP_PORTS ? portMark('udp', index - UDP_PORTS) : portMark('tcp', index);
}

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
