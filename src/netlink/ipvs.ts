import type { Result } from '../base/errors.ts';
import type { Family, IpAddress, Protocol } from '../model/address.ts';
import { SCHEDULER_FLAGS, type SchedulerFlag } from '../model/spec.ts';
import { type Attributes, type AttributeWriter, decodeError, encodeError, NLA_F_NESTED } from './attributes.ts';
import { decodeGenl, genlWriter } from './genetlink.ts';
import { familyName, familyNumber, formatField, IPPROTO_SCTP, IPPROTO_TCP, IPPROTO_UDP, parseAddress } from './ip.ts';
import { type NetlinkMessage, type NetlinkRequest, NLM_F_DUMP, NLM_F_REQUEST } from './message.ts';

/** Family name for getGenlFamily; the resulting id is the `genl` parameter of every request here. */
export const IPVS_GENL_NAME = 'IPVS';
const IPVS_GENL_VERSION = 1;

// include/uapi/linux/ip_vs.h
export const IPVS_CMD = {
  newService: 1,
  setService: 2,
  deleteService: 3,
  getService: 4,
  newDestination: 5,
  setDestination: 6,
  deleteDestination: 7,
  getDestination: 8,
  setConfig: 12,
  getConfig: 13,
  setInfo: 14,
  getInfo: 15,
  zero: 16,
  flush: 17,
} as const;

const CMD_ATTR_SERVICE = 1;
const CMD_ATTR_TIMEOUT_TCP = 4;
const CMD_ATTR_TIMEOUT_TCP_FIN = 5;
const CMD_ATTR_TIMEOUT_UDP = 6;

const SVC_AF = 1;
const SVC_PROTOCOL = 2;
const SVC_ADDR = 3;
const SVC_PORT = 4;
const SVC_FWMARK = 5;
const SVC_SCHED_NAME = 6;
const SVC_FLAGS = 7;
const SVC_TIMEOUT = 8;
const SVC_NETMASK = 9;
const SVC_PE_NAME = 11;

const INFO_VERSION = 1;
const INFO_CONN_TAB_SIZE = 2;
/** IP_VS_SCHEDNAME_MAXLEN and IP_VS_PENAME_MAXLEN, NUL included. */
const NAME_MAX = 16;

export const IP_VS_SVC_F_PERSISTENT = 0x1;
/** Set by the kernel on every service it lists. */
export const IP_VS_SVC_F_HASHED = 0x2;
export const IP_VS_SVC_F_ONEPACKET = 0x4;
/** IP_VS_SVC_F_SCHED1 and 2: their meaning depends on the scheduler (SCHED_SH_*, SCHED_MH_*). */
const SCHEDULER_BITS: Record<SchedulerFlag, number> = {
  'sh-fallback': 0x8,
  'sh-port': 0x10,
  'mh-fallback': 0x8,
  'mh-port': 0x10,
};

/** Flags of a scheduler as IP_VS_SVC_F_* bits. */
export function schedulerBits(flags: readonly SchedulerFlag[]): number {
  return flags.reduce((bits, flag) => bits | SCHEDULER_BITS[flag], 0);
}

/** The inverse, in the order of SCHEDULER_FLAGS; `rest` are bits without a name for this scheduler. */
export function schedulerFlags(scheduler: string, bits: number): { flags: SchedulerFlag[]; rest: number } {
  const flags = SCHEDULER_FLAGS.filter(
    (flag) => flag.startsWith(`${scheduler}-`) && (bits & SCHEDULER_BITS[flag]) !== 0,
  );
  return { flags, rest: bits & ~schedulerBits(flags) };
}

/** A service is identified by its fwmark, or by protocol, address and port. */
export type ServiceKey = { family: Family; fwmark: number } | { protocol: Protocol; address: IpAddress; port: number };

export interface ServiceSettings {
  /** `rr`, `wrr`, `lc` …; an unknown one is ENOENT. */
  scheduler: string;
  /** IP_VS_SVC_F_* */
  flags?: number | undefined;
  /** Mask of significant flags; all if absent. */
  flagsMask?: number | undefined;
  /** Persistence timeout in seconds; with IP_VS_SVC_F_PERSISTENT. */
  timeout?: number | undefined;
  /** Clients in the same network of this prefix length share a real server; full address length if absent. */
  persistencePrefix?: number | undefined;
  /** Persistence engine, `sip`. */
  peName?: string | undefined;
}

export interface ServiceEntry {
  key: ServiceKey;
  family: Family;
  scheduler: string;
  flags: number;
  timeout: number;
  persistencePrefix: number;
  peName: string | undefined;
}

const PROTOCOL_NUMBERS: Record<Protocol, number> = { tcp: IPPROTO_TCP, udp: IPPROTO_UDP, sctp: IPPROTO_SCTP };
const PROTOCOL_NAMES = new Map(Object.entries(PROTOCOL_NUMBERS).map(([name, number]) => [number, name as Protocol]));

/** union nf_inet_addr: 16 bytes for both families. */
export function putAddressField(writer: AttributeWriter, type: number, address: Uint8Array): void {
  writer.putField(type, address, 16);
}

function writeKey(writer: AttributeWriter, key: ServiceKey): Family {
  if ('fwmark' in key) {
    if (key.fwmark === 0) throw encodeError('an IPVS service with fwmark 0, which the kernel takes for none');
    writer.putU16(SVC_AF, familyNumber(key.family)).putU32(SVC_FWMARK, key.fwmark);
    return key.family;
  }
  const address = parseAddress(key.address);
  const family = address.length === 4 ? 'inet' : 'inet6';
  writer.putU16(SVC_AF, familyNumber(family)).putU16(SVC_PROTOCOL, PROTOCOL_NUMBERS[key.protocol]);
  putAddressField(writer, SVC_ADDR, address);
  writer.putBe16(SVC_PORT, key.port);
  return family;
}

/** Identity of the service in a request. */
export function writeServiceKey(writer: AttributeWriter, key: ServiceKey): AttributeWriter {
  return writer.nested(CMD_ATTR_SERVICE | NLA_F_NESTED, () => writeKey(writer, key));
}

/** A command of the IPVS family; `genl` is the family id (getGenlFamily). */
export function ipvsRequest(
  genl: number,
  command: number,
  dump = false,
  body?: (writer: AttributeWriter) => void,
): NetlinkRequest {
  const writer = genlWriter(command, IPVS_GENL_VERSION);
  body?.(writer);
  return { type: genl, flags: dump ? NLM_F_REQUEST | NLM_F_DUMP : NLM_F_REQUEST, payload: writer.finish() };
}

/** IPv4: the mask in network order; IPv6: the prefix length in the machine's. */
function putNetmask(writer: AttributeWriter, family: Family, prefix: number | undefined): void {
  const longest = family === 'inet' ? 32 : 128;
  if (prefix !== undefined && !(prefix >= 0 && prefix <= longest)) throw encodeError(`persistence prefix ${prefix}`);
  if (family === 'inet6') writer.putU32(SVC_NETMASK, prefix ?? 128);
  else writer.putBe32(SVC_NETMASK, prefix === 0 ? 0 : (0xffff_ffff << (32 - (prefix ?? 32))) >>> 0);
}

function serviceRequest(genl: number, command: number, key: ServiceKey, settings: ServiceSettings): NetlinkRequest {
  return ipvsRequest(genl, command, false, (writer) => {
    writer.nested(CMD_ATTR_SERVICE | NLA_F_NESTED, () => {
      const family = writeKey(writer, key);
      writer.putString(SVC_SCHED_NAME, settings.scheduler, NAME_MAX);
      if (settings.peName !== undefined) writer.putString(SVC_PE_NAME, settings.peName, NAME_MAX);
      // struct ip_vs_flags
      writer.nested(SVC_FLAGS, () => writer.u32(settings.flags ?? 0).u32(settings.flagsMask ?? 0xffff_ffff));
      writer.putU32(SVC_TIMEOUT, settings.timeout ?? 0);
      putNetmask(writer, family, settings.persistencePrefix);
    });
  });
}

/** `ipvsadm -A`. EEXIST if it exists, ENOENT if the scheduler does not exist. */
export function newService(genl: number, key: ServiceKey, settings: ServiceSettings): NetlinkRequest {
  return serviceRequest(genl, IPVS_CMD.newService, key, settings);
}

/** `ipvsadm -E`. ESRCH if it does not exist. */
export function setService(genl: number, key: ServiceKey, settings: ServiceSettings): NetlinkRequest {
  return serviceRequest(genl, IPVS_CMD.setService, key, settings);
}

/** `ipvsadm -D`, with all its real servers. ESRCH if it does not exist. */
export function deleteService(genl: number, key: ServiceKey): NetlinkRequest {
  return ipvsRequest(genl, IPVS_CMD.deleteService, false, (writer) => writeServiceKey(writer, key));
}

/** One service; ESRCH if it does not exist. */
export function getService(genl: number, key: ServiceKey): NetlinkRequest {
  return ipvsRequest(genl, IPVS_CMD.getService, false, (writer) => writeServiceKey(writer, key));
}

/** `ipvsadm -L` without real servers. */
export function dumpServices(genl: number): NetlinkRequest {
  return ipvsRequest(genl, IPVS_CMD.getService, true);
}

/** `ipvsadm -C`. */
export function flushServices(genl: number): NetlinkRequest {
  return ipvsRequest(genl, IPVS_CMD.flush);
}

/** `ipvsadm -Z`: resets the counters of one service, or of all. */
export function zeroCounters(genl: number, key?: ServiceKey): NetlinkRequest {
  return ipvsRequest(genl, IPVS_CMD.zero, false, (writer) => {
    if (key !== undefined) writeServiceKey(writer, key);
  });
}

/** Reads replies to getService and dumpServices. */
export function decodeService(message: NetlinkMessage): Result<ServiceEntry> {
  return decodeGenl('IPVS service', undefined, [IPVS_CMD.newService, IPVS_CMD.setService], message, (top) => {
    const service = top.nested(CMD_ATTR_SERVICE);
    if (service === undefined) throw decodeError('missing service');
    const family = familyName(service.u16(SVC_AF) ?? 0);
    const flags = service.bytes(SVC_FLAGS);
    if (flags !== undefined && flags.length < 4) throw decodeError(`flags of ${flags.length} bytes`);
    return {
      key: readKey(service, family),
      family,
      scheduler: service.string(SVC_SCHED_NAME) ?? '',
      flags: service.u32(SVC_FLAGS) ?? 0,
      timeout: service.u32(SVC_TIMEOUT) ?? 0,
      persistencePrefix:
        family === 'inet' ? Math.clz32(~(service.be32(SVC_NETMASK) ?? 0)) : (service.u32(SVC_NETMASK) ?? 128),
      peName: service.string(SVC_PE_NAME),
    };
  });
}

function readKey(service: Attributes, family: Family): ServiceKey {
  const fwmark = service.u32(SVC_FWMARK);
  if (fwmark !== undefined && fwmark !== 0) return { family, fwmark };
  const number = service.u16(SVC_PROTOCOL) ?? 0;
  const protocol = PROTOCOL_NAMES.get(number);
  const field = service.bytes(SVC_ADDR);
  const port = service.be16(SVC_PORT);
  if (protocol === undefined || field === undefined || port === undefined) {
    throw decodeError(`neither a fwmark nor protocol, address and port (protocol ${number})`);
  }
  return { protocol, address: formatField(field, family), port };
}

/** Connection timeouts in seconds. In setConfig 0 keeps the current value. */
export interface IpvsConfig {
  tcp: number;
  tcpFin: number;
  udp: number;
}

/** `ipvsadm --set tcp tcpfin udp`. */
export function setConfig(genl: number, config: IpvsConfig): NetlinkRequest {
  return ipvsRequest(genl, IPVS_CMD.setConfig, false, (writer) => {
    writer.putU32(CMD_ATTR_TIMEOUT_TCP, config.tcp);
    writer.putU32(CMD_ATTR_TIMEOUT_TCP_FIN, config.tcpFin);
    writer.putU32(CMD_ATTR_TIMEOUT_UDP, config.udp);
  });
}

/** `ipvsadm -L --timeout`. */
export function getConfig(genl: number): NetlinkRequest {
  return ipvsRequest(genl, IPVS_CMD.getConfig);
}

/** Reads the reply to getConfig; a protocol compiled out of the kernel reads as 0. */
export function decodeConfig(message: NetlinkMessage): Result<IpvsConfig> {
  return decodeGenl('IPVS config', undefined, [IPVS_CMD.setConfig], message, (attributes) => ({
    tcp: attributes.u32(CMD_ATTR_TIMEOUT_TCP) ?? 0,
    tcpFin: attributes.u32(CMD_ATTR_TIMEOUT_TCP_FIN) ?? 0,
    udp: attributes.u32(CMD_ATTR_TIMEOUT_UDP) ?? 0,
  }));
}

/** Version and size of the connection table. */
export function getInfo(genl: number): NetlinkRequest {
  return ipvsRequest(genl, IPVS_CMD.getInfo);
}

/** Reads the reply to getInfo. */
export function decodeInfo(message: NetlinkMessage): Result<{ version: string; connectionTableSize: number }> {
  return decodeGenl('IPVS info', undefined, [IPVS_CMD.setInfo], message, (attributes) => {
    const version = attributes.u32(INFO_VERSION) ?? 0;
    return {
      version: `${(version >> 16) & 0xff}.${(version >> 8) & 0xff}.${version & 0xff}`,
      connectionTableSize: attributes.u32(INFO_CONN_TAB_SIZE) ?? 0,
    };
  });
}
