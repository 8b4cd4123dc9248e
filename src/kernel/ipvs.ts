import { MeshError } from '../base/errors.ts';
import type { KernelObject, ObjectKind, VirtualService } from '../model/kernel-state.ts';
import { HOST_NETNS, markedPort } from '../model/names.ts';
import { decodeGenlFamily, getGenlFamily } from '../netlink/genetlink.ts';
import {
  decodeConfig,
  decodeService,
  dumpServices,
  getConfig,
  IP_VS_SVC_F_HASHED,
  IPVS_GENL_NAME,
} from '../netlink/ipvs.ts';
import { type DestinationEntry, decodeDestination, dumpDestinations } from '../netlink/ipvs-destination.ts';
import { NETLINK_GENERIC, type Transport } from './transport.ts';
import { each } from './wire.ts';

/** The number the kernel gave the IPVS family, asked for once. */
export interface IpvsFamily {
  /** Undefined when this kernel has no IPVS; asking loads the module where it can be loaded. */
  find(): Promise<number | undefined>;
  /** As `find`, but an error that says how to get it. */
  need(): Promise<number>;
}

/** Finds the IPVS family through the host netns: generic netlink families are numbered once for the whole kernel. */
export function ipvsFamily(transport: Transport): IpvsFamily {
  let known: number | undefined;
  async function find(): Promise<number | undefined> {
    if (known !== undefined) return known;
    const [outcome] = await transport.transact(HOST_NETNS, NETLINK_GENERIC, [getGenlFamily(IPVS_GENL_NAME)]);
    const [family] = outcome?.ok ? each(outcome.replies, decodeGenlFamily) : [];
    known = family?.id;
    return known;
  }
  return {
    find,
    async need() {
      const id = await find();
      if (id !== undefined) return id;
      throw new MeshError(
        'unsupported',
        'the kernel has no IPVS: run `modprobe ip_vs` (Debian: package linux-image-amd64, not the cloud kernel)',
      );
    },
  };
}

/** Our fwmark services and their real servers in one netns, and its timeouts when `timeouts`. */
export async function observeIpvs(
  transport: Transport,
  genl: number,
  netns: string,
  wants: (kind: ObjectKind) => boolean,
  timeouts: boolean,
): Promise<KernelObject[]> {
  const objects: KernelObject[] = [];
  if (timeouts && wants('ipvs-timeouts')) {
    const [outcome] = await transport.transact(netns, NETLINK_GENERIC, [getConfig(genl)]);
    const [config] = outcome?.ok ? each(outcome.replies, decodeConfig) : [];
    if (config) objects.push({ kind: 'ipvs-timeouts', netns, ...config });
  }
  if (!wants('virtual-service') && !wants('real-server')) return objects;
  const services = await listServices(transport, genl, netns);
  if (wants('virtual-service')) objects.push(...services);
  if (!wants('real-server')) return objects;
  for (const { family, fwmark } of services) {
    for (const server of await listDestinations(transport, genl, netns, { family, fwmark })) {
      const { address, port } = server;
      objects.push({ kind: 'real-server', netns, family, fwmark, address, port, weight: weightOf(server) });
    }
  }
  return objects;
}

async function listServices(transport: Transport, genl: number, netns: string): Promise<VirtualService[]> {
  const services: VirtualService[] = [];
  for (const entry of each(await transport.dump(netns, NETLINK_GENERIC, dumpServices(genl)), decodeService)) {
    const { key, scheduler, flags } = entry;
    if (!('fwmark' in key) || markedPort(key.fwmark) === undefined) continue;
    // Ours are never persistent nor one-packet: with its flags in the name it differs from anything wanted.
    const plain = (flags & ~IP_VS_SVC_F_HASHED) === 0;
    services.push({
      kind: 'virtual-service',
      netns,
      family: key.family,
      fwmark: key.fwmark,
      scheduler: plain ? scheduler : `${scheduler}+flags:0x${flags.toString(16)}`,
    });
  }
  return services;
}

/** Real servers of a fwmark service, with their connection counts. */
export async function listDestinations(
  transport: Transport,
  genl: number,
  netns: string,
  service: { family: VirtualService['family']; fwmark: number },
): Promise<DestinationEntry[]> {
  return each(await transport.dump(netns, NETLINK_GENERIC, dumpDestinations(genl, service)), decodeDestination);
}

/** Ours masquerade and have no connection limits; -1 stands for one that somebody made otherwise, and is set right. */
function weightOf(server: DestinationEntry): number {
  const ours = server.forwarding === 'masquerade' && server.upperThreshold === 0 && server.lowerThreshold === 0;
  return ours ? server.weight : -1;
}
