import { type Family, familyOf, type IpAddress } from '../model/address.ts';
import type { AssignedPort, Endpoint } from '../model/assignment.ts';
import { addressAt } from '../model/block.ts';
import { BLOCK_SLOT } from '../model/identifiers.ts';
import {
  type KernelObject,
  type RealServer,
  serverName,
  usesHashing,
  type VirtualService,
} from '../model/kernel-state.ts';
import { LB_NETNS, portMark, serviceSet } from '../model/linux-names.ts';
import type { TrafficPolicy } from '../model/spec.ts';
import { planAccess } from './access.ts';
import type { PlanContext } from './context.ts';
import { planFastPathPort } from './fast-path.ts';
import { flagsOf, schedulerOf } from './scheduler.ts';

/**
 * A published port: one fwmark service per family with its tasks as real servers, and the port's entry in both sets.
 * Without tasks it stays published: IPVS answers port unreachable, and the client's connection is refused at once
 * instead of hanging or reaching something else that listens on the host. SCTP clients go on after port unreachable
 * (sctp_v4_err): without tasks their port has no service, and the lb itself refuses with ABORT or protocol unreachable.
 * A host mode port goes the same way: the manager tells of it only the node of its task, with that task behind it.
 */
export function planPort(context: PlanContext, port: AssignedPort): KernelObject[] {
  const fwmark = portMark(port.protocol, port.published);
  const objects: KernelObject[] = [];
  if (port.protocol !== 'sctp' || port.endpoints.length > 0) {
    for (const { family } of context.subnets) objects.push(...planService(context, port, family, fwmark));
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

/** There are more of these than of everything else: made without spreading, which takes three times as long. */
function realServer(family: Family, fwmark: number, at: IpAddress | undefined, endpoint: Endpoint): RealServer {
  const { address, port, weight } = endpoint;
  const made: RealServer = { kind: 'real-server', netns: LB_NETNS, family, fwmark, address, port, weight };
  if (at !== undefined) made.at = at;
  return made;
}

/**
 * Whether IPVS finds a port's service by the address to which the host's DNAT sends clients, not by mark: persistent
 * ones, for a mark's template forgets the port of the task; SCTP's, for no set gives its packets a mark.
 */
function isMatchedByAddress({ protocol, persistence }: AssignedPort): boolean {
  return persistence !== undefined || protocol === 'sctp';
}

/** Whom a policy leaves out gets weight 0: open connections go on, new ones go elsewhere. */
function applyPolicy(nodeId: string, policy: TrafficPolicy = 'cluster', endpoints: Endpoint[]): Endpoint[] {
  const isLocal = (endpoint: Endpoint) => endpoint.nodeId === nodeId;
  const onlyLocal =
    policy === 'local' || (policy === 'prefer-local' && endpoints.some((one) => isLocal(one) && one.weight > 0));
  return onlyLocal ? endpoints.map((one) => (isLocal(one) ? one : { ...one, weight: 0 })) : endpoints;
}

/** Buckets of sh, CONFIG_IP_VS_SH_TAB_BITS = 8: it fills them in order by weight, and who comes late gets none. */
const SH_TABLE_SIZE = 256;

function fitHashTable(endpoints: Endpoint[]): Endpoint[] {
  const sum = endpoints.reduce((total, { weight }) => total + weight, 0);
  if (sum <= SH_TABLE_SIZE) return endpoints;
  const share = (weight: number) => (weight === 0 ? 0 : Math.max(1, Math.floor((weight * SH_TABLE_SIZE) / sum)));
  return endpoints.map((endpoint) => ({ ...endpoint, weight: share(endpoint.weight) }));
}

/**
 * UDP has no connections to drain: with weight 0 a client that never stops sending would keep its dead task for ever.
 * Gone from the balancer, its next packet ends the entry (expire_nodest_conn) and the one after goes to a live task.
 */
function isRealServer(port: AssignedPort, endpoint: Endpoint): boolean {
  return endpoint.weight > 0 || port.protocol !== 'udp';
}
