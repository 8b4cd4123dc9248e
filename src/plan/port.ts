import { type Family, familyOf, type IpAddress } from '../model/address.ts';
import type { AssignedPort, Endpoint } from '../model/assignment.ts';
import { addressAt } from '../model/block.ts';
import { BLOCK_SLOT } from '../model/identifiers.ts';
import { type RealServer, serverName } from '../model/kinds/real-server.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { usesHashing, type VirtualService } from '../model/kinds/virtual-service.ts';
import { LB_NETNS, portMark, serviceSet } from '../model/linux-names.ts';
import type { TrafficPolicy } from '../model/spec.ts';
import { planAccess } from './access.ts';
import type { PlanContext } from './context.ts';
import { planFastPathPort } from './fast-path.ts';
import { flagsOf, schedulerOf } from './scheduler.ts';

/**
 * A published port: one fwmark service per family with its tasks as real servers, and the port's entry in both sets.
 * Without tasks it stays published: IPVS answers port unreachable, and the client's connection is refused at once
 * instead of hanging or reaching another program that listens on the host. SCTP clients ignore port unreachable
 * (sctp_v4_err): without tasks of a family their port has no service, and the lb itself refuses with ABORT or protocol
 * unreachable.
 * A host mode port is planned the same way: the manager assigns it only to the node of its task, with that one endpoint.
 */
export function planPort(context: PlanContext, port: AssignedPort): KernelObject[] {
  const fwmark = portMark(port.protocol, port.published);
  const objects: KernelObject[] = [];
  for (const { family } of context.subnets) {
    const isServed = port.protocol !== 'sctp' || port.endpoints.some(({ address }) => familyOf(address) === family);
    if (isServed) objects.push(...planService(context, port, family, fwmark));
  }
  if (port.protocol !== 'sctp') {
    const set = serviceSet(port.protocol);
    objects.push({ kind: 'set-member', netns: LB_NETNS, set, port: port.published, mark: fwmark });
  }
  objects.push(...planAccess(context, port), ...planFastPathPort(context, port));
  return objects;
}

function planService(context: PlanContext, port: AssignedPort, family: Family, fwmark: number): KernelObject[] {
  const scheduler = schedulerOf(port, context.schedulers);
  const endpoints = applyPolicy(
    context.self.nodeId,
    port.policy,
    port.endpoints.filter(({ address }) => familyOf(address) === family),
  );
  const { persistence } = port;
  const block = context.subnets.find((subnet) => subnet.family === family)?.block;
  const at = isMatchedByAddress(port) && block !== undefined ? addressAt(block, BLOCK_SLOT.lb) : undefined;
  const servers = (scheduler === 'sh' ? fitHashTable(endpoints) : endpoints)
    .filter((endpoint) => isRealServer(port, endpoint))
    .map((endpoint) => realServer(family, fwmark, at, endpoint));
  const service: VirtualService = {
    kind: 'virtual-service',
    netns: LB_NETNS,
    family,
    fwmark,
    ...(at === undefined ? {} : { at }),
    scheduler,
    ...flagsOf(scheduler, port.schedulerFlags),
    ...(persistence === undefined
      ? {}
      : { persistence: { timeout: Math.ceil(persistence.timeout / 1_000), prefix: persistence.prefix[family] } }),
    ...(usesHashing(scheduler) ? { servers: [...new Set(servers.map(serverName))] } : {}),
  };
  return [service, ...servers];
}

/** By far the most frequent objects: created without object spread, which takes three times as long. */
function realServer(family: Family, fwmark: number, at: IpAddress | undefined, endpoint: Endpoint): RealServer {
  const { address, port, weight } = endpoint;
  const made: RealServer = { kind: 'real-server', netns: LB_NETNS, family, fwmark, address, port, weight };
  if (at !== undefined) made.at = at;
  return made;
}

/**
 * Whether IPVS finds a port's service by the DNAT destination instead of the mark: persistent ports, because the
 * connection template of a mark does not keep the port of the task; SCTP ports, because no ipset marks their packets.
 */
function isMatchedByAddress({ protocol, persistence }: AssignedPort): boolean {
  return persistence !== undefined || protocol === 'sctp';
}

/** Endpoints that a traffic policy excludes get weight 0: they keep open connections and get no new ones. */
function applyPolicy(nodeId: string, policy: TrafficPolicy = 'cluster', endpoints: Endpoint[]): Endpoint[] {
  const isLocal = (endpoint: Endpoint) => endpoint.nodeId === nodeId;
  const onlyLocal =
    policy === 'local' || (policy === 'prefer-local' && endpoints.some((one) => isLocal(one) && one.weight > 0));
  return onlyLocal ? endpoints.map((one) => (isLocal(one) ? one : { ...one, weight: 0 })) : endpoints;
}

/** Buckets of sh, CONFIG_IP_VS_SH_TAB_BITS = 8: filled in order by weight, so the last real servers may get none. */
const SH_TABLE_SIZE = 256;

function fitHashTable(endpoints: Endpoint[]): Endpoint[] {
  const sum = endpoints.reduce((total, { weight }) => total + weight, 0);
  if (sum <= SH_TABLE_SIZE) return endpoints;
  const share = (weight: number) => (weight === 0 ? 0 : Math.max(1, Math.floor((weight * SH_TABLE_SIZE) / sum)));
  return endpoints.map((endpoint) => ({ ...endpoint, weight: share(endpoint.weight) }));
}

/**
 * UDP has no connections to drain: with weight 0 a client that keeps sending would stay on its dead task for ever. Once
 * the real server is removed, the next packet ends the entry (expire_nodest_conn) and the one after reaches a live task.
 */
function isRealServer(port: AssignedPort, endpoint: Endpoint): boolean {
  return endpoint.weight > 0 || port.protocol !== 'udp';
}
