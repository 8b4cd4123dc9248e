import { createHash } from 'node:crypto';
import { closeSync, readFileSync } from 'node:fs';
import { endianness } from 'node:os';
import { getSocketOption, inNetns, openSocket } from '../../../native/index.ts';
import type { Family } from '../../model/address.ts';

/*
 * The tables of iptables-legacy as the kernel returns them, to see whether they changed. The kernel has no generation
 * number for them, and iptables-save costs a process.
 *
 * include/uapi/linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h, with 64-bit alignment: struct
 * ipt_getinfo is 84 bytes and ends with the size of the rules; ipt_get_entries has 40 before the first rule. In a rule
 * stand the distance to the next one and two counters of 8 bytes.
 */
const GET_INFO = 64;
const GET_ENTRIES = 65;
const NAME_SIZE = 32;
const INFO_SIZE = 84;
const HEADER_SIZE = 40;
const LAYOUTS = {
  inet: { family: 2, level: 0, names: 'ip_tables_names', next: 90, counters: 96, least: 112 },
  inet6: { family: 10, level: 41, names: 'ip6_tables_names', next: 142, counters: 152, least: 168 },
} as const;
const SOCK_DGRAM = 2;

/** Changes with every change of the rules in a netns, but not with their counters; undefined when that is not supported. */
export function hashLegacyTables(netnsPath: string, family: Family): string | undefined {
  if (endianness() !== 'LE' || !/64$/.test(process.arch)) return undefined;
  const layout = LAYOUTS[family];
  try {
    return inNetns(netnsPath, () => {
      const names = readFileSync(`/proc/thread-self/net/${layout.names}`, 'latin1').split('\n').filter(Boolean).sort();
      return names.length === 0 ? 'no tables' : hashTables(names, layout);
    });
  } catch {
    return undefined; // changed meanwhile (EAGAIN), or a kernel without: iptables-save knows
  }
}

/** Of tables in the netns we are in. */
function hashTables(tables: readonly string[], layout: (typeof LAYOUTS)[Family]): string {
  const hash = createHash('sha256');
  const fd = openSocket({ family: layout.family, type: SOCK_DGRAM });
  try {
    for (const table of tables) hash.update(`${table}\n`).update(readRules(fd, table, layout));
  } finally {
    closeSync(fd);
  }
  return hash.digest('base64');
}

function readRules(fd: number, table: string, { level, next, counters, least }: (typeof LAYOUTS)[Family]): Buffer {
  const info = Buffer.alloc(INFO_SIZE);
  info.write(table, 'latin1');
  getSocketOption(fd, level, GET_INFO, info);
  const size = info.readUInt32LE(INFO_SIZE - 4);
  const entries = Buffer.alloc(HEADER_SIZE + size);
  entries.write(table, 'latin1');
  entries.writeUInt32LE(size, NAME_SIZE);
  getSocketOption(fd, level, GET_ENTRIES, entries);
  for (let at = HEADER_SIZE; at + least <= entries.length; ) {
    entries.fill(0, at + counters, at + counters + 16);
    const length = entries.readUInt16LE(at + next);
    if (length < least) throw new RangeError('a rule of no length');
    at += length;
  }
  return entries;
}
