import type { IpAddress } from './address.ts';
import type { FastPathFilter, FastPathPeer, FastPathPort, FastPathProgram, FastPathTask, Op } from './kernel-state.ts';
import { FAST_PATH_PREFERENCE, FAST_PATH_PREFIX, HOST_NETNS } from './names.ts';

/*
 * The shortcut in words of tc and bpftool. The programs are in meshd and in no file, so where tc takes a file these lines
 * have the program's name, with what is baked into it behind `#`; and where bpftool takes a link's number, the link.
 */

type Verb = Op['verb'];

export function fastPathFilterCommands({ netns, link, program }: FastPathFilter, verb: Verb): string[] {
  const tc = netns === HOST_NETNS ? 'tc' : `tc -n ${netns}`;
  const place = `dev ${link} ingress pref ${FAST_PATH_PREFERENCE}`;
  if (verb === 'delete') return [`${tc} filter del ${place}`];
  const qdisc = verb === 'create' ? [`${tc} qdisc add dev ${link} clsact`] : [];
  const add = verb === 'create' ? 'add' : 'replace';
  const object = program === undefined ? 'FOREIGN' : `${FAST_PATH_PREFIX}${program.type}${parameters(program)}`;
  return [...qdisc, `${tc} filter ${add} ${place} handle 1 bpf direct-action object ${object}`];
}

export function fastPathTaskCommands({ netns, address, link }: FastPathTask, verb: Verb): string[] {
  return mapEntryCommands(netns, 'mesh_tasks', addressBytes(address), link, verb);
}

export function fastPathPeerCommands({ address }: FastPathPeer, verb: Verb): string[] {
  return mapEntryCommands(HOST_NETNS, 'mesh_peers', addressBytes(address), '1', verb);
}

export function fastPathPortCommands({ mark }: FastPathPort, verb: Verb): string[] {
  return mapEntryCommands(HOST_NETNS, 'mesh_ports', littleEndianBytes(mark), '1', verb);
}

function mapEntryCommands(netns: string, map: string, key: string, value: string, verb: Verb): string[] {
  const bpftool = `${netns === HOST_NETNS ? '' : `ip netns exec ${netns} `}bpftool map`;
  return [
    verb === 'delete'
      ? `${bpftool} delete name ${map} key ${key}`
      : `${bpftool} update name ${map} key ${key} value ${value}`,
  ];
}

function parameters({ type: _, ...rest }: FastPathProgram): string {
  const words = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
  return words.length === 0 ? '' : ` # ${words.join(', ')}`;
}

/** An address as bpftool takes it. */
function addressBytes(address: IpAddress): string {
  return address.split('.').join(' ');
}

/** Four bytes as bpftool takes them, the lowest first. */
function littleEndianBytes(value: number): string {
  return [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff).join(' ');
}
