import type { IpAddress } from '../address.ts';
import { formatHostPort } from '../host-port.ts';
import { ipAddress, number } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { insideNetns } from './things.ts';
import { identityFields, type ServiceIdentity, serviceArguments, serviceKey, serviceName } from './virtual-service.ts';
import { execPrefix } from './words.ts';

/**
 * A real server of an IPVS service, forwarded by masquerading (NAT), without connection limits. Another program's
 * deviations are `forwarding tunnel`, `forwarding direct`, `forwarding local`, `upper threshold 5`, `lower threshold 1`.
 */
export interface RealServer extends ObjectBase, ServiceIdentity {
  kind: 'real-server';
  address: IpAddress;
  port: number;
  weight: number;
}

export const realServer = defineKind<RealServer>({
  kind: 'real-server',
  fields: { ...identityFields, address: ipAddress, port: number, weight: number },
  key: (object) => realServerKey(serviceName(object), serverName(object)),
  stage: 'real servers',
  inside: (object) => [...insideNetns(object.netns), serviceKey(object)],
  // A real server stops accepting new connections only after others have begun to.
  reducesTraffic: (before, after) => before.weight > 0 && after.weight === 0,
  commands(object, verb) {
    const ipvsadm = `${execPrefix(object.netns)}ipvsadm`;
    const service = serviceArguments(object);
    const server = formatHostPort(object.address, object.port);
    if (verb === 'delete') return [`${ipvsadm} -d ${service} -r ${server}`];
    return [`${ipvsadm} ${verb === 'create' ? '-a' : '-e'} ${service} -r ${server} -m -w ${object.weight}`];
  },
});

/** A real server within its service. */
export function serverName({ address, port }: Pick<RealServer, 'address' | 'port'>): string {
  return `${address} ${port}`;
}

/** Joined, because there are tens of thousands: the pieces of a template stay in memory with the whole. */
export function realServerKey(service: string, server: string): string {
  return ['real-server', service, server].join(' ');
}
