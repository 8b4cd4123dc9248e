import type { Family, IpAddress } from '../address.ts';
import { hostPrefix } from '../block.ts';
import { sameValue } from '../equality.ts';
import { formatHostPort } from '../host-port.ts';
import { markedPort } from '../linux-names.ts';
import { SCHEDULER_FLAGS, type SchedulerFlag } from '../spec.ts';
import { family, ipAddress, listOf, number, oneOf, optional, shape, text } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { execPrefix } from './words.ts';

/** Which IPVS service: the one of a fwmark, or the one of an address with the protocol and port that the mark encodes. */
export interface ServiceIdentity {
  netns: string;
  family: Family;
  fwmark: number;
  /**
   * Of persistent services: found by mark, they would send clients to the port they asked for, whatever the real
   * server's port is (ip_vs_sched_persist).
   */
  at?: IpAddress;
}

/** An IPVS service. */
export interface VirtualService extends ObjectBase, ServiceIdentity {
  kind: 'virtual-service';
  scheduler: string;
  /** In the order of SCHEDULER_FLAGS; absent when there is none. */
  flags?: SchedulerFlag[];
  /** A client stays with its real server, all clients of one prefix length as one, for so many idle seconds. */
  persistence?: { timeout: number; prefix: number };
  /**
   * Its real servers (`serverName`), from the oldest to the newest; only of schedulers that hash, because their choice
   * depends on the order (ip_vs_sh_reassign, ip_vs_mh_populate walk `svc->destinations`).
   */
  servers?: string[];
}

/** What a service and its real servers have in their JSON form. */
export const identityFields = { family, fwmark: number, at: optional(ipAddress) };

export const virtualService = defineKind<VirtualService>({
  kind: 'virtual-service',
  fields: {
    ...identityFields,
    scheduler: text,
    flags: optional(listOf(oneOf(...SCHEDULER_FLAGS))),
    persistence: optional(shape({ timeout: number, prefix: number })),
    servers: optional(listOf(text)),
  },
  key: serviceKey,
  stage: 'virtual services',
  isOurs: ({ fwmark }) => markedPort(fwmark) !== undefined,
  provides: 'key',
  // The order of real servers is brought about by creating them in that order (src/diff/server-order.ts).
  isEquivalent: (before, after) => sameValue({ ...before, servers: [] }, { ...after, servers: [] }),
  commands(object, verb) {
    const ipvsadm = `${execPrefix(object.netns)}ipvsadm`;
    const service = serviceArguments(object);
    if (verb === 'delete') return [`${ipvsadm} -D ${service}`];
    const option = verb === 'create' ? '-A' : '-E';
    return [`${ipvsadm} ${option} ${service} -s ${object.scheduler}${balancingArguments(object)}`];
  },
});

export function serviceKey(identity: ServiceIdentity): string {
  return ['virtual-service', serviceName(identity)].join(' ');
}

/** A service among all; also the middle of its real servers' keys. */
export function serviceName({ netns, family, fwmark, at }: ServiceIdentity): string {
  return at === undefined ? [netns, family, fwmark].join(' ') : `${netns} ${family} ${fwmark} at ${at}`;
}

/** The fields that identify a service, out of an object that belongs to it. */
export function serviceIdentity({ netns, family, fwmark, at }: ServiceIdentity): ServiceIdentity {
  return { netns, family, fwmark, ...(at === undefined ? {} : { at }) };
}

/** Schedulers whose choice depends on the order of the real servers. */
export function usesHashing(scheduler: string): boolean {
  return scheduler === 'sh' || scheduler === 'mh';
}

/** `-f 73616 -6`, or `-t 10.252.1.2:8080` of a service found by its address. */
export function serviceArguments({ family, fwmark, at }: ServiceIdentity): string {
  const named = markedPort(fwmark);
  if (at === undefined || named === undefined) return `-f ${fwmark}${family === 'inet6' ? ' -6' : ''}`;
  const option = { tcp: '-t', udp: '-u', sctp: '--sctp-service' }[named.protocol];
  return `${option} ${formatHostPort(at, named.published)}`;
}

/** ` -b mh-port -p 300 -M 255.255.255.0`; the mask of one address is the default of ipvsadm. */
function balancingArguments({ family, flags, persistence }: VirtualService): string {
  const options = flags === undefined ? '' : ` -b ${flags.join(',')}`;
  if (persistence === undefined) return options;
  const { timeout, prefix } = persistence;
  const mask = family === 'inet6' ? `${prefix}` : dottedMask(prefix);
  return `${options} -p ${timeout}${prefix === hostPrefix(family) ? '' : ` -M ${mask}`}`;
}

function dottedMask(prefix: number): string {
  const bits = prefix === 0 ? 0 : (0xffff_ffff << (32 - prefix)) >>> 0;
  return [24, 16, 8, 0].map((shift) => (bits >>> shift) & 0xff).join('.');
}
