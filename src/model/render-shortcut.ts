import type { IpAddress } from './address.ts';
import type { Op, Shortcut, ShortcutPeer, ShortcutPort, ShortcutProgram, ShortcutTask } from './kernel-state.ts';
import { HOST_NETNS, SHORTCUT_PREFERENCE, SHORTCUT_PREFIX } from './names.ts';

/*
 * The shortcut in words of tc and bpftool. The programs are in meshd and in no file, so where tc takes a file these lines
 * have the program's name, with what is baked into it behind `#`; and where bpftool takes a link's number, the link.
 */

type Verb = Op['verb'];

export function shortcutWords({ netns, link, program }: Shortcut, verb: Verb): string[] {
  const tc = netns === HOST_NETNS ? 'tc' : `tc -n ${netns}`;
  const place = `dev ${link} ingress pref ${SHORTCUT_PREFERENCE}`;
  if (verb === 'delete') return [`${tc} filter del ${place}`];
  const qdisc = verb === 'create' ? [`${tc} qdisc add dev ${link} clsact`] : [];
  const add = verb === 'create' ? 'add' : 'replace';
  const object = `${SHORTCUT_PREFIX}${program.type}${parameters(program)}`;
  return [...qdisc, `${tc} filter ${add} ${place} handle 1 bpf direct-action object ${object}`];
}

export function shortcutTaskWords({ netns, address, link }: ShortcutTask, verb: Verb): string[] {
  return entryWords(netns, 'mesh_tasks', bytes(address), link, verb);
}

export function shortcutPeerWords({ address }: ShortcutPeer, verb: Verb): string[] {
  return entryWords(HOST_NETNS, 'mesh_peers', bytes(address), '1', verb);
}

export function shortcutPortWords({ mark }: ShortcutPort, verb: Verb): string[] {
  return entryWords(HOST_NETNS, 'mesh_ports', word(mark), '1', verb);
}

function entryWords(netns: string, map: string, key: string, value: string, verb: Verb): string[] {
  const bpftool = `${netns === HOST_NETNS ? '' : `ip netns exec ${netns} `}bpftool map`;
  return [
    verb === 'delete'
      ? `${bpftool} delete name ${map} key ${key}`
      : `${bpftool} update name ${map} key ${key} value ${value}`,
  ];
}

function parameters({ type: _, ...rest }: ShortcutProgram): string {
  const words = Object.entries(rest).map(([name, value]) => `${name} ${value}`);
  return words.length === 0 ? '' : ` # ${words.join(', ')}`;
}

/** An address as bpftool takes it. */
function bytes(address: IpAddress): string {
  return address.split('.').join(' ');
}

/** Four bytes as bpftool takes them, the lowest first. */
function word(value: number): string {
  return [0, 8, 16, 24].map((shift) => (value >>> shift) & 0xff).join(' ');
}
