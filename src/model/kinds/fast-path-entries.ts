import type { IpAddress } from '../address.ts';
import { HOST_NETNS, LB_NETNS } from '../linux-names.ts';
import { fastPathKey } from './fast-path.ts';
import { ipAddress, number, text } from './fields.ts';
import { defineKind, type ObjectBase, type Verb } from './kind.ts';
import { linkThing } from './things.ts';
import { serviceKey } from './virtual-service.ts';
import { execPrefix } from './words.ts';

/* The entries of the maps that the programs of the fast path share (native/bpf). */

/** A task that packets reach by the fast path: an entry of mesh_tasks. */
export interface FastPathTask extends ObjectBase {
  kind: 'fast-path-task';
  /** The router's. */
  netns: string;
  address: IpAddress;
  /** The router's end of its veth. */
  link: string;
}

export const fastPathTask = defineKind<FastPathTask>({
  kind: 'fast-path-task',
  fields: { address: ipAddress, link: text },
  key: ({ netns, address }) => fastPathTaskKey(netns, address),
  stage: 'fast path tasks',
  // The entry has the link's number, and outlives it.
  holds: ({ netns, link }) => [linkThing(netns, link)],
  after: ({ netns, link }) => [fastPathKey(netns, link)],
  commands: ({ netns, address, link }, verb) =>
    mapEntryCommands(netns, 'mesh_tasks', addressBytes(address), link, verb),
});

export function fastPathTaskKey(netns: string, address: IpAddress): string {
  return `fast-path-task ${netns} ${address}`;
}

/** A published port that packets reach by the fast path: an entry of mesh_ports. */
export interface FastPathPort extends ObjectBase {
  kind: 'fast-path-port';
  /** Encodes protocol and port (linux-names.ts). */
  mark: number;
}

export const fastPathPort = defineKind<FastPathPort>({
  kind: 'fast-path-port',
  fields: { mark: number },
  key: ({ netns, mark }) => fastPathPortKey(netns, mark),
  stage: 'fast path ports',
  after: ({ mark }) => [serviceKey({ netns: LB_NETNS, family: 'inet', fwmark: mark })],
  // PORT_UNKNOWN of native/bpf/published.h
  commands: ({ mark }, verb) => mapEntryCommands(HOST_NETNS, 'mesh_ports', littleEndianBytes(mark), '1 0 0 0', verb),
});

export function fastPathPortKey(netns: string, mark: number): string {
  return `fast-path-port ${netns} ${mark}`;
}

/** Another node, whose VXLAN packets the fast path decapsulates: an entry of mesh_peers. */
export interface FastPathPeer extends ObjectBase {
  kind: 'fast-path-peer';
  /** On the underlay. */
  address: IpAddress;
}

export const fastPathPeer = defineKind<FastPathPeer>({
  kind: 'fast-path-peer',
  fields: { address: ipAddress },
  key: ({ netns, address }) => fastPathPeerKey(netns, address),
  stage: 'fast path peers',
  commands: ({ address }, verb) => mapEntryCommands(HOST_NETNS, 'mesh_peers', addressBytes(address), '1', verb),
});

export function fastPathPeerKey(netns: string, address: IpAddress): string {
  return `fast-path-peer ${netns} ${address}`;
}

/** bpftool expects the number of a link as value; these lines have its name. */
function mapEntryCommands(netns: string, map: string, key: string, value: string, verb: Verb): string[] {
  const bpftool = `${execPrefix(netns)}bpftool map`;
  return [
    verb === 'delete'
      ? `${bpftool} delete name ${map} key ${key}`
      : `${bpftool} update name ${map} key ${key} value ${value}`,
  ];
}

/** An address as bpftool expects it. */
function addressBytes(address: IpAddress): string {
  return address.split('.').join(' ');
}

/** Four bytes as bpftool expects them, the lowest first. */
function littleEndianBytes(value: number): string {
  return [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff).join(' ');
}
