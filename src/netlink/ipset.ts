import type { Result } from '../base/errors.ts';
import type { Family } from '../model/address.ts';
import { Attributes, AttributeWriter, decodeError, encodeError, NLA_F_NESTED, toDecodeResult } from './attributes.ts';
import { AF_INET, AF_UNSPEC, familyNumber } from './ip.ts';
import { ATTR_LINENO, ATTR_PORT, putNet16, putNet32, readEntry, type SetEntry, writeEntry } from './ipset-entry.ts';
import {
  type NetlinkMessage,
  type NetlinkRequest,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  NLMSG_ERROR,
} from './message.ts';

/** include/uapi/linux/netfilter/nfnetlink.h; the high byte of the message type. */
const NFNL_SUBSYS_IPSET = 6 << 8;
/** sizeof(struct nfgenmsg) */
const NFGENMSG = 4;

// include/uapi/linux/netfilter/ipset/ip_set.h
const CMD = { create: 2, destroy: 3, flush: 4, list: 7, add: 9, del: 10, test: 11, header: 12, type: 13 } as const;
const ATTR_PROTOCOL = 1;
const ATTR_SETNAME = 2;
const ATTR_TYPENAME = 3;
const ATTR_REVISION = 4;
const ATTR_FAMILY = 5;
const ATTR_FLAGS = 6;
const ATTR_DATA = 7;
const ATTR_ADT = 8;
const ATTR_REVISION_MIN = 10;
// Inside ATTR_DATA of CREATE and LIST
const ATTR_PORT_TO = 5;
const ATTR_CADT_FLAGS = 8;
const ATTR_HASHSIZE = 18;
const ATTR_MAXELEM = 19;
const ATTR_ELEMENTS = 24;
const ATTR_REFERENCES = 25;
const ATTR_MEMSIZE = 26;
const FLAG_LIST_SETNAME = 2;
const FLAG_LIST_HEADER = 4;
const FLAG_WITH_SKBINFO = 1 << 6;
const MAXNAMELEN = 32;

/** Protocol 7 exists since 4.19; kernels accept 6 as well. */
const IPSET_PROTOCOL = 7;
/** Elements of one message: with IPv6 pairs and marks well below the 64 KiB an attribute can hold. */
const BATCH = 500;

/**
 * Types of the data path, with the first revision that has skbinfo (kernel 3.18: net/netfilter/ipset/ip_set_*.c).
 * The kernel takes any revision it still supports.
 */
const REVISIONS = {
  'bitmap:port': 3,
  'hash:ip': 4,
  'hash:net': 6,
  'hash:ip,port': 5,
  'hash:net,port': 7,
  'hash:net,net': 2,
  'hash:net,port,net': 2,
} as const;
export type SetType = keyof typeof REVISIONS;

export interface NewSet {
  name: string;
  type: SetType;
  /** Of hash types; ignored for bitmap:port. */
  family?: Family | undefined;
  /** Of bitmap:port. */
  range?: { from: number; to: number } | undefined;
  /** Elements may carry a mark. */
  skbinfo?: boolean | undefined;
  hashSize?: number | undefined;
  maxElements?: number | undefined;
}

/** A set as listed. */
export interface SetListing {
  name: string;
  type: string;
  revision: number;
  family: Family | undefined;
  range: { from: number; to: number } | undefined;
  skbinfo: boolean;
  hashSize: number | undefined;
  maxElements: number | undefined;
  /** Rules and sets that use it; not 0 makes destroy fail with IPSET_ERR_BUSY. */
  references: number;
  memorySize: number;
  /** Counted by the kernel; undefined for kernels that do not report it. */
  elements: number | undefined;
  entries: SetEntry[];
}

function setWriter(name: string | undefined, capacity = 128): AttributeWriter {
  const writer = new AttributeWriter(capacity).u8(AF_INET).u8(0).be16(0).putU8(ATTR_PROTOCOL, IPSET_PROTOCOL);
  return name === undefined ? writer : writer.putString(ATTR_SETNAME, name, MAXNAMELEN);
}

function request(command: number, flags: number, writer: AttributeWriter): NetlinkRequest {
  return { type: NFNL_SUBSYS_IPSET | command, flags: NLM_F_REQUEST | flags, payload: writer.finish() };
}

/** `ipset create`. EEXIST when a set has the name; with `ensure` only when it differs in type or parameters. */
export function createSet(set: NewSet, mode: 'create' | 'ensure' = 'create'): NetlinkRequest {
  const bitmap = set.type === 'bitmap:port';
  const writer = setWriter(set.name)
    .putString(ATTR_TYPENAME, set.type, MAXNAMELEN)
    .putU8(ATTR_REVISION, REVISIONS[set.type]);
  writer.putU8(ATTR_FAMILY, bitmap ? AF_UNSPEC : familyNumber(set.family ?? 'inet'));
  writer.nested(ATTR_DATA | NLA_F_NESTED, () => {
    if (bitmap) {
      if (set.range === undefined) throw encodeError(`set ${set.name}: bitmap:port needs a range`);
      putNet16(writer, ATTR_PORT, set.range.from);
      putNet16(writer, ATTR_PORT_TO, set.range.to);
    }
    if (set.skbinfo === true) putNet32(writer, ATTR_CADT_FLAGS, FLAG_WITH_SKBINFO);
    if (set.hashSize !== undefined) putNet32(writer, ATTR_HASHSIZE, set.hashSize);
    if (set.maxElements !== undefined) putNet32(writer, ATTR_MAXELEM, set.maxElements);
  });
  return request(CMD.create, mode === 'create' ? NLM_F_CREATE | NLM_F_EXCL : NLM_F_CREATE, writer);
}

/** `ipset destroy NAME`. ENOENT when it is not there, IPSET_ERR_BUSY while a rule uses it. */
export function destroySet(name: string): NetlinkRequest {
  return request(CMD.destroy, NLM_F_EXCL, setWriter(name));
}

/** `ipset flush NAME`. */
export function flushSet(name: string): NetlinkRequest {
  return request(CMD.flush, 0, setWriter(name));
}

function entryRequest(command: number, flags: number, name: string, entry: SetEntry): NetlinkRequest {
  const writer = setWriter(name);
  const line = command === CMD.test ? undefined : 0;
  return request(
    command,
    flags,
    writer.nested(ATTR_DATA | NLA_F_NESTED, () => writeEntry(writer, entry, line)),
  );
}

/** `ipset add`. IPSET_ERR_EXIST when it is there; with `ensure` that is fine and its mark is set anew. */
export function addEntry(name: string, entry: SetEntry, mode: 'create' | 'ensure' = 'create'): NetlinkRequest {
  return entryRequest(CMD.add, mode === 'create' ? NLM_F_EXCL : 0, name, entry);
}

/** `ipset del`. IPSET_ERR_EXIST when it is not there; with `ensure` that is fine. */
export function deleteEntry(name: string, entry: SetEntry, mode: 'create' | 'ensure' = 'create'): NetlinkRequest {
  return entryRequest(CMD.del, mode === 'create' ? NLM_F_EXCL : 0, name, entry);
}

/** `ipset test`: success when it is in, IPSET_ERR_EXIST when not. */
export function testEntry(name: string, entry: SetEntry): NetlinkRequest {
  return entryRequest(CMD.test, 0, name, entry);
}

/**
 * Many elements of one set, in as few messages as their size allows. The kernel stops a message at the first element it
 * refuses; decodeFailedEntry returns which. Lines count from 1 over all messages.
 */
function batchRequests(command: number, flags: number, name: string, entries: readonly SetEntry[]): NetlinkRequest[] {
  const requests: NetlinkRequest[] = [];
  for (let from = 0; from < entries.length; from += BATCH) {
    const part = entries.slice(from, from + BATCH);
    const writer = setWriter(name, 64 + part.length * 40);
    // The attribute at command level is where the kernel writes the line of the failed element.
    putNet32(writer, ATTR_LINENO, from + 1);
    writer.nested(ATTR_ADT | NLA_F_NESTED, () => {
      part.forEach((entry, i) => {
        writer.nested(ATTR_DATA | NLA_F_NESTED, () => writeEntry(writer, entry, from + i + 1));
      });
    });
    requests.push(request(command, flags, writer));
  }
  return requests;
}

/** `ipset restore` with many `add` lines. */
export function addEntries(
  name: string,
  entries: readonly SetEntry[],
  mode: 'create' | 'ensure' = 'create',
): NetlinkRequest[] {
  return batchRequests(CMD.add, mode === 'create' ? NLM_F_EXCL : 0, name, entries);
}

/** `ipset restore` with many `del` lines. */
export function deleteEntries(
  name: string,
  entries: readonly SetEntry[],
  mode: 'create' | 'ensure' = 'create',
): NetlinkRequest[] {
  return batchRequests(CMD.del, mode === 'create' ? NLM_F_EXCL : 0, name, entries);
}

/** Which element (index into the list given) an NLMSG_ERROR to a batch is about; undefined when it names none. */
export function decodeFailedEntry(message: NetlinkMessage): number | undefined {
  const echo = 4 + 16 + NFGENMSG; // error number, nlmsghdr and nfgenmsg of the request
  const line = toDecodeResult('ipset error', () => {
    if (message.type !== NLMSG_ERROR || message.payload.length < echo) return undefined;
    return new Attributes(message.payload, echo).be32(ATTR_LINENO);
  });
  return line.ok && line.value !== undefined && line.value > 0 ? line.value - 1 : undefined;
}

/** `ipset list [NAME]`: all sets without a name, with `headerOnly` without their elements. ENOENT when it is not there. */
export function dumpSets(filter: { name?: string; headerOnly?: boolean } = {}): NetlinkRequest {
  const writer = setWriter(filter.name);
  if (filter.headerOnly === true) putNet32(writer, ATTR_FLAGS, FLAG_LIST_HEADER);
  return request(CMD.list, NLM_F_DUMP, writer);
}

/** `ipset list -name`. */
export function dumpSetNames(): NetlinkRequest {
  const writer = setWriter(undefined);
  putNet32(writer, ATTR_FLAGS, FLAG_LIST_SETNAME);
  return request(CMD.list, NLM_F_DUMP, writer);
}

/** Type, revision and family of one set; answers one message that decodeSetPart reads. */
export function getSetHeader(name: string): NetlinkRequest {
  return request(CMD.header, 0, setWriter(name));
}

/** Revisions of a type the kernel offers (it loads the module); IPSET_ERR_FIND_TYPE when it has none. */
export function getSetType(type: SetType, family: Family = 'inet'): NetlinkRequest {
  const writer = setWriter(undefined).putString(ATTR_TYPENAME, type, MAXNAMELEN);
  return request(CMD.type, 0, writer.putU8(ATTR_FAMILY, type === 'bitmap:port' ? AF_UNSPEC : familyNumber(family)));
}

function decodeSetMessage<T>(
  message: NetlinkMessage,
  commands: readonly number[],
  body: (top: Attributes) => T,
): Result<T> {
  return toDecodeResult('ipset', () => {
    const { type, payload } = message;
    if ((type & 0xff00) !== NFNL_SUBSYS_IPSET || !commands.includes(type & 0xff)) throw decodeError(`type ${type}`);
    return body(new Attributes(payload, NFGENMSG));
  });
}

/** Reads the answer to a question for a set type: the revisions of it that this kernel has. */
export function decodeSetType(
  message: NetlinkMessage,
): Result<{ type: string; revisionMin: number; revisionMax: number }> {
  return decodeSetMessage(message, [CMD.type], (top) => {
    const revisionMax = top.u8(ATTR_REVISION) ?? 0;
    return {
      type: top.string(ATTR_TYPENAME) ?? '',
      revisionMin: top.u8(ATTR_REVISION_MIN) ?? revisionMax,
      revisionMax,
    };
  });
}

/** One message of a listing; a big set takes several, and only the first one has the header fields. */
export interface SetPart {
  name: string;
  header: Omit<SetListing, 'entries' | 'name'> | undefined;
  entries: SetEntry[];
}

/** Reads answers of dumpSets, dumpSetNames and getSetHeader. */
export function decodeSetPart(message: NetlinkMessage): Result<SetPart> {
  return decodeSetMessage(message, [CMD.list, CMD.header], (top) => {
    const name = top.string(ATTR_SETNAME);
    if (name === undefined) throw decodeError('no set name in it');
    const type = top.string(ATTR_TYPENAME);
    const elements = top.nested(ATTR_ADT)?.list() ?? [];
    return {
      name,
      header: type === undefined ? undefined : readHeader(top, type),
      entries: elements.filter((data) => data.type === ATTR_DATA).map((data) => readEntry(new Attributes(data.bytes))),
    };
  });
}

function readHeader(top: Attributes, type: string): Omit<SetListing, 'entries' | 'name'> {
  const data = top.nested(ATTR_DATA);
  const family = top.u8(ATTR_FAMILY);
  const from = data?.be16(ATTR_PORT);
  const to = data?.be16(ATTR_PORT_TO);
  return {
    type,
    revision: top.u8(ATTR_REVISION) ?? 0,
    family: family === familyNumber('inet') ? 'inet' : family === familyNumber('inet6') ? 'inet6' : undefined,
    range: from === undefined || to === undefined ? undefined : { from, to },
    skbinfo: ((data?.be32(ATTR_CADT_FLAGS) ?? 0) & FLAG_WITH_SKBINFO) !== 0,
    hashSize: data?.be32(ATTR_HASHSIZE),
    maxElements: data?.be32(ATTR_MAXELEM),
    references: data?.be32(ATTR_REFERENCES) ?? 0,
    memorySize: data?.be32(ATTR_MEMSIZE) ?? 0,
    elements: data?.be32(ATTR_ELEMENTS),
  };
}

/** Whole sets from the messages of one dump, in order; a part without its first message is an error. */
export function collectSets(messages: readonly NetlinkMessage[]): Result<SetListing[]> {
  const sets = new Map<string, SetListing>();
  for (const message of messages) {
    const part = decodeSetPart(message);
    if (!part.ok) return part;
    const { name, header, entries } = part.value;
    if (header !== undefined) sets.set(name, { name, ...header, entries: [...entries] });
    else {
      const existing = sets.get(name);
      if (existing === undefined)
        return toDecodeResult('ipset', () => {
          throw decodeError(`set ${name} continues without a beginning`);
        });
      for (const entry of entries) existing.entries.push(entry);
    }
  }
  return { ok: true, value: [...sets.values()] };
}
