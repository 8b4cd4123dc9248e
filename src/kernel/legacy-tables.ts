import { createHash } from 'node:crypto';
import { closeSync, readFileSync } from 'node:fs';
import { endianness } from 'node:os';
import { getSocketOption, inNetns, openSocket } from '../../native/index.ts';
import type { Family } from '../model/address.ts';

/*
 * The tables of iptables-legacy as the kernel hands them out, for one question: are they what they were? The kernel has
 * no generation number for them, and asking iptables-save takes a process each time.
 *
 * include/uapi/linux/netfilter_ipv4/ip_tables.h and netfilter_ipv6/ip6_tables.h, with 64-bit alignment: struct
 * ipt_getinfo is 84 bytes and ends with the size of the rules; ipt_get_entries has 40 before the first rule. In a rule
 * stand the distance to the next one and two counters of 8 bytes.
 */
const GET_INFO = 64;
const GET_ENTRIES = 65;
const NAME = 32;
const INFO = 84;
const HEAD = 40;
const SHAPES = {
  inet: { family: 2, level: 0, names: 'ip_tables_names', next: 90, counters: 96, least: 112 },
  inet6: { family: 10, level: 41, names: 'ip6_tables_names', next: 142, counters: 152, least: 168 },
} as const;
const DATAGRAMS = 2;

/** Changes with every change of the rules in a netns, but not with their counters; undefined when that cannot be told. */
export function legacyStamp(netnsPath: string, family: Family): string | undefined {
  if (endianness() !== 'LE' || !/64$/.test(process.arch)) return undefined;
  const shape = SHAPES[family];
  try {
    return inNetns(netnsPath, () => {
      const names = readFileSync(`/proc/thread-self/net/${shape.names}`, 'latin1').split('\n').filter(Boolean).sort();
      return names.length === 0 ? 'no tables' : stampOf(names, shape);
    });
  } catch {
    return undefined; // changed meanwhile (EAGAIN), or a kernel without: iptables-save knows
  }
}

/** Of tables in the netns we are in. */
function stampOf(tables: readonly string[], shape: (typeof SHAPES)[Family]): string {
  const hash = createHash('sha256');
  const fd = openSocket({ family: shape.family, type: DATAGRAMS });
  try {
    for (const table of tables) hash.update(`${table}\n`).update(rulesOf(fd, table, shape));
  } finally {
    closeSync(fd);
  }
  return hash.digest('base64');
}

function rulesOf(fd: number, table: string, { level, next, counters, least }: (typeof SHAPES)[Family]): Buffer {
  const info = Buffer.alloc(INFO);
  info.write(table, 'latin1');
  getSocketOption(fd, level, GET_INFO, info);
  const size = info.readUInt32LE(INFO - 4);
  const entries = Buffer.alloc(HEAD + size);
  entries.write(table, 'latin1');
  entries.writeUInt32LE(size, NAME);
  getSocketOption(fd, level, GET_ENTRIES, entries);
  for (let at = HEAD; at + least <= entries.length; ) {
    entries.fill(0, at + counters, at + counters + 16);
    const length = entries.readUInt16LE(at + next);
    if (length < least) throw new RangeError('a rule of no length');
    at += length;
  }
  return entries;
}
