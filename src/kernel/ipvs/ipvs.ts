import { MeshError } from '../../base/errors.ts';
import type { IpAddress } from '../../model/address.ts';
import {
  type KernelObject,
  type ObjectKind,
  serverKey,
  serviceIdentity,
  usesHashing,
  type VirtualService,
} from '../../model/kernel-state.ts';
import { HOST_NETNS, markedPort, portMark } from '../../model/names.ts';
import { decodeGenlFamily, getGenlFamily } from '../../netlink/genetlink.ts';
import {
  decodeConfig,
  decodeService,
  dumpServices,
  getConfig,
  IP_VS_SVC_F_HASHED,
  IP_VS_SVC_F_PERSISTENT,
  IPVS_GENL_NAME,
  type ServiceEntry,
  type ServiceKey,
  schedulerFlags,
} from '../../netlink/ipvs.ts';
import { type DestinationEntry, decodeDestination, dumpDestinations } from '../../netlink/ipvs-destination.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { NETLINK_GENERIC, type Transport } from '../driver/transport.ts';

/** The number the kernel gave the IPVS family, asked for once. */
export interface IpvsFamily {
  /** Undefined when this kernel has no IPVS; asking loads the module where it can be loaded. */
  find(): Promise<number | undefined>;
  /** As `find`, but an error that says how to get it. */
  require(): Promise<number>;
}

/** Finds the IPVS family through the host netns: generic netlink families are numbered once for the whole kernel. */
export function openIpvsFamily(transport: Transport): IpvsFamily {
  let cachedId: number | undefined;
  async function find(): Promise<number | undefined> {
    if (cachedId !== undefined) return cachedId;
    const [outcome] = await transport.transact(HOST_NETNS, NETLINK_GENERIC, [getGenlFamily(IPVS_GENL_NAME)]);
    const [family] = outcome?.ok ? decodeAll(outcome.replies, decodeGenlFamily) : [];
    cachedId = family?.id;
    return cachedId;
  }
  return {
    find,
    async require() {
      const id = await find();
      if (id !== undefined) return id;
      throw new MeshError(
        'unsupported',
        'the kernel has no IPVS: run `modprobe ip_vs` (Debian: package linux-image-amd64, not the cloud kernel)',
      );
    },
  };
}

/** How the kernel finds a service of ours. */
export function ipvsKey({ family, fwmark, at }: Pick<VirtualService, 'family' | 'fwmark' | 'at'>): ServiceKey {
  const port = markedPort(fwmark);
  if (at === undefined || port === undefined) return { family, fwmark };
  return { protocol: port.protocol, address: at, port: port.published };
}

/**
 * Our services and their real servers in one netns, and its timeouts when `timeouts`. Ours are those with a mark of ours
 * or one of the addresses `own`.
 */
export async function observeIpvs(
  transport: Transport,
  genl: number,
  netns: string,
  includesKind: (kind: ObjectKind) => boolean,
  timeouts: boolean,
  own: ReadonlySet<IpAddress>,
): Promise<KernelObject[]> {
  const objects: KernelObject[] = [];
  if (timeouts && includesKind('ipvs-timeouts')) {
    const [outcome] = await transport.transact(netns, NETLINK_GENERIC, [getConfig(genl)]);
    const [config] = outcome?.ok ? decodeAll(outcome.replies, decodeConfig) : [];
    if (config) objects.push({ kind: 'ipvs-timeouts', netns, ...config });
  }
  if (!includesKind('virtual-service') && !includesKind('real-server')) return objects;
  for (const service of await listServices(transport, genl, netns, own)) {
    const ordered = usesHashing(service.scheduler);
    const servers =
      ordered || includesKind('real-server') ? await listDestinations(transport, genl, netns, ipvsKey(service)) : [];
    if (includesKind('virtual-service'))
      objects.push(ordered ? { ...service, servers: oldestFirst(servers) } : service);
    if (!includesKind('real-server')) continue;
    for (const server of servers) {
      const { address, port } = server;
      objects.push({ kind: 'real-server', ...serviceIdentity(service), address, port, weight: weightOf(server) });
    }
  }
  return objects;
}

/** A dump follows the kernel's own list, and a new real server comes to its head (__ip_vs_update_dest, list_add_rcu). */
function oldestFirst(servers: readonly DestinationEntry[]): string[] {
  return servers.map(serverKey).reverse();
}

/** Services with a mark of ours, or with an address out of `own`, any when not given. */
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

function parseAddressKey({ protocol, address, port }: Extract<ServiceKey, { port: number }>) {
  return { fwmark: portMark(protocol, port), at: address };
}

function schedulingOf(entry: ServiceEntry): Pick<VirtualService, 'scheduler' | 'flags' | 'persistence'> {
  const persistent = (entry.flags & IP_VS_SVC_F_PERSISTENT) !== 0;
  const bits = entry.flags & ~(IP_VS_SVC_F_HASHED | IP_VS_SVC_F_PERSISTENT);
  const { flags, rest } = schedulerFlags(entry.scheduler, bits);
  // One-packet scheduling and persistence engines are never ours: with them in its name it differs from anything wanted.
  const foreign = `${rest === 0 ? '' : `+flags:0x${rest.toString(16)}`}${entry.peName ? `+pe:${entry.peName}` : ''}`;
  return {
    scheduler: `${entry.scheduler}${foreign}`,
    ...(flags.length === 0 ? {} : { flags }),
    ...(persistent ? { persistence: { timeout: entry.timeout, prefix: entry.persistencePrefix } } : {}),
  };
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

/** Ours masquerade and have no connection limits; -1 stands for one that somebody made otherwise, and is set right. */
function weightOf(server: DestinationEntry): number {
  const ours = server.forwarding === 'masquerade' && server.upperThreshold === 0 && server.lowerThreshold === 0;
  return ours ? server.weight : -1;
}
