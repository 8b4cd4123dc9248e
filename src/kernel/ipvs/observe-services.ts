import type { IpAddress } from '../../model/address.ts';
import { serverName } from '../../model/kinds/real-server.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { serviceIdentity, usesHashing, type VirtualService } from '../../model/kinds/virtual-service.ts';
import { HOST_NETNS, markedPort, portMark } from '../../model/linux-names.ts';
import {
  decodeService,
  dumpServices,
  IP_VS_SVC_F_HASHED,
  IP_VS_SVC_F_PERSISTENT,
  type ServiceEntry,
  type ServiceKey,
  schedulerFlags,
} from '../../netlink/ipvs.ts';
import { type DestinationEntry, decodeDestination, dumpDestinations } from '../../netlink/ipvs-destination.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { NETLINK_GENERIC, type Transport } from '../driver/transport.ts';
import { isManagedHere, type Observer } from '../observe/observer.ts';
import { ipvsKey } from './ipvs.ts';

/** Our services and their real servers: those with a mark of ours, or with one of the addresses that this netns should have. */
export const observeServices: Observer = async (scan) => {
  const { transport, ipvs, netns, includes, desiredHere } = scan;
  // The host's IPVS belongs to other programs, as kube-proxy or keepalived.
  if (netns === HOST_NETNS || !isManagedHere(scan, 'virtual-service', 'real-server', 'ipvs-timeouts')) return [];
  const genl = await ipvs.find();
  if (genl === undefined) return [];
  const own = new Set(desiredHere.flatMap((object) => (object.kind === 'address' ? [object.address] : [])));
  const objects: KernelObject[] = [];
  for (const service of await listServices(transport, genl, netns, own)) {
    const ordered = usesHashing(service.scheduler);
    const listed = ordered || includes('real-server');
    const servers = listed ? await listDestinations(transport, genl, netns, ipvsKey(service)) : [];
    if (includes('virtual-service')) objects.push(ordered ? { ...service, servers: oldestFirst(servers) } : service);
    if (!includes('real-server')) continue;
    for (const server of servers) {
      const { address, port, weight } = server;
      const identity = serviceIdentity(service);
      const foreign = serverOddities(server);
      objects.push(
        foreign === undefined
          ? { kind: 'real-server', ...identity, address, port, weight }
          : { kind: 'real-server', ...identity, address, port, weight, foreign },
      );
    }
  }
  return objects;
};

/** A dump has the order of the kernel's list, where a new real server is first (__ip_vs_update_dest, list_add_rcu). */
function oldestFirst(servers: readonly DestinationEntry[]): string[] {
  return servers.map(serverName).reverse();
}

/** Services with a mark of ours, or with an address out of `own`; with any address when that is not given. */
export async function listServices(
  transport: Transport,
  genl: number,
  netns: string,
  own?: ReadonlySet<IpAddress>,
): Promise<VirtualService[]> {
  const services: VirtualService[] = [];
  for (const entry of decodeAll(await transport.dump(netns, NETLINK_GENERIC, dumpServices(genl)), decodeService)) {
    const { key, family } = entry;
    const { fwmark, at } = 'fwmark' in key ? { ...key, at: undefined } : parseAddressKey(key);
    if (markedPort(fwmark) === undefined || (at !== undefined && own?.has(at) === false)) continue;
    const name = { netns, family, fwmark, ...(at === undefined ? {} : { at }) };
    services.push({ kind: 'virtual-service', ...name, ...schedulingOf(entry) });
  }
  return services;
}

/** Real servers of a service, with their connection counts. */
export async function listDestinations(
  transport: Transport,
  genl: number,
  netns: string,
  service: ServiceKey,
): Promise<DestinationEntry[]> {
  return decodeAll(await transport.dump(netns, NETLINK_GENERIC, dumpDestinations(genl, service)), decodeDestination);
}

function parseAddressKey({ protocol, address, port }: Extract<ServiceKey, { port: number }>) {
  return { fwmark: portMark(protocol, port), at: address };
}

function schedulingOf(entry: ServiceEntry): Pick<VirtualService, 'scheduler' | 'flags' | 'persistence' | 'foreign'> {
  const persistent = (entry.flags & IP_VS_SVC_F_PERSISTENT) !== 0;
  const bits = entry.flags & ~(IP_VS_SVC_F_HASHED | IP_VS_SVC_F_PERSISTENT);
  const { flags, rest } = schedulerFlags(entry.scheduler, bits);
  // One-packet scheduling and persistence engines are never ours.
  const foreign = [
    ...(rest === 0 ? [] : [`flags 0x${rest.toString(16)}`]),
    ...(entry.peName ? [`pe ${entry.peName}`] : []),
  ];
  return {
    scheduler: entry.scheduler,
    ...(flags.length === 0 ? {} : { flags }),
    ...(persistent ? { persistence: { timeout: entry.timeout, prefix: entry.persistencePrefix } } : {}),
    ...(foreign.length === 0 ? {} : { foreign }),
  };
}

/** Ours masquerade and have no connection limits. */
function serverOddities({ forwarding, upperThreshold, lowerThreshold }: DestinationEntry): string[] | undefined {
  if (forwarding === 'masquerade' && upperThreshold === 0 && lowerThreshold === 0) return undefined;
  return [
    ...(forwarding === 'masquerade' ? [] : [`forwarding ${forwarding}`]),
    ...(upperThreshold === 0 ? [] : [`at most ${upperThreshold} connections`]),
    ...(lowerThreshold === 0 ? [] : [`again below ${lowerThreshold} connections`]),
  ];
}
