import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Cidr, IpAddress } from '../../model/address.ts';
import { familyOf } from '../../model/address.ts';
import { isWithin } from '../../model/block.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { atSet, fromSet, HOST_NETNS, LB_HOST_LINK, LB_NETNS, publishedSet } from '../../model/linux-names.ts';
import { decodeAddress, dumpAddresses } from '../../netlink/address.ts';
import {
  decodeFlow,
  deleteFlow,
  dumpFlows,
  type Flow,
  type FlowProtocol,
  flowProtocolNumber,
} from '../../netlink/conntrack.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { NETLINK_NETFILTER, NETLINK_ROUTE, type Transport } from '../driver/transport.ts';

/*
 * NAT is decided for the first packet of a flow, and an entry of the host's connection tracking exists as long as
 * packets arrive. TCP reconnects; a UDP client that never stops sending would never reach a port published after its
 * first packet, and would reach the balancer for ever after the port was unpublished. So when a port is published or
 * unpublished these entries are deleted, and no others: those to local addresses without NAT, or with our NAT.
 */

const FLOW_PROTOCOLS: readonly FlowProtocol[] = ['udp', 'sctp'];

/** A port that was added to the host's sets or removed. */
interface FlowChange {
  protocol: FlowProtocol;
  port: number;
  added: boolean;
  /** Only flows between these; of both families and all addresses when undefined. */
  client?: Cidr;
  local?: Cidr;
}

/** For more ports of a protocol than this all flows are listed once. */
const MAX_FILTERED_DUMPS = 4;
/** A packet in flight while its port was added may have created one more entry. */
const MAX_PASSES = 3;

/** How the operations of an apply affect flows; nearly always empty. */
export function flowChanges(ops: readonly Op[]): FlowChange[] {
  return ops.flatMap(({ verb, object }): FlowChange[] => {
    if (verb === 'change' || object.netns !== HOST_NETNS) return [];
    const added = verb === 'create';
    if (object.kind === 'set-member') {
      const protocol = FLOW_PROTOCOLS.find((candidate) => publishedSet(candidate) === object.set);
      return protocol === undefined ? [] : [{ protocol, port: object.port, added }];
    }
    if (object.kind !== 'set-entry' || object.port === undefined) return [];
    const protocol = FLOW_PROTOCOLS.find((candidate) => candidate === object.protocol);
    const family = familyOf(object.network);
    if (protocol === undefined) return [];
    const { port, network, network2 } = object;
    if (object.set === atSet(family)) return [{ protocol, port, added, local: network }];
    if (object.set !== fromSet(family) || network2 === undefined) return [];
    return [{ protocol, port, added, client: network, local: network2 }];
  });
}

/** Addresses that our DNAT sends packets to. */
export function balancerAddresses(objects: Iterable<KernelObject>): Set<IpAddress> {
  const found = new Set<IpAddress>();
  for (const object of objects) {
    if (object.kind === 'address' && object.netns === LB_NETNS && object.dev === LB_HOST_LINK)
      found.add(object.address);
  }
  return found;
}

/** Deletes the flows that the changes affect; returns how many. Failures are only logged: flows end by themselves. */
export async function deleteStaleFlows(
  transport: Transport,
  changes: readonly FlowChange[],
  balancer: ReadonlySet<IpAddress>,
  log: Log,
): Promise<number> {
  let ended = 0;
  try {
    for (let pass = 0; pass < MAX_PASSES; pass += 1) {
      const flows = await findStaleFlows(transport, changes, balancer);
      if (flows.length === 0) break;
      const outcomes = await transport.transact(HOST_NETNS, NETLINK_NETFILTER, flows.map(deleteFlow));
      const refusal = outcomes.find((outcome) => !outcome.ok && outcome.code !== 'ENOENT');
      if (refusal !== undefined && !refusal.ok) log.warn(`cannot delete an old flow of a UDP port: ${refusal.code}`);
      ended += outcomes.filter(({ ok }) => ok).length;
      if (refusal !== undefined) break;
    }
  } catch (thrown) {
    log.warn(
      `cannot list old flows of UDP ports (${messageOf(thrown)}); clients that never stop sending may not reach a new port; load the module nf_conntrack_netlink`,
    );
  }
  if (ended > 0) log.debug({ count: ended }, 'deleted flows from before a port was published or unpublished');
  return ended;
}

async function findStaleFlows(transport: Transport, changes: readonly FlowChange[], balancer: ReadonlySet<IpAddress>) {
  const local = await readLocalAddresses(transport);
  const flows: Flow[] = [];
  for (const protocol of FLOW_PROTOCOLS) {
    const byPort = new Map<number, FlowChange[]>();
    for (const change of changes) {
      if (change.protocol === protocol) byPort.set(change.port, [...(byPort.get(change.port) ?? []), change]);
    }
    if (byPort.size === 0) continue;
    const ports = byPort.size > MAX_FILTERED_DUMPS ? [undefined] : [...byPort.keys()];
    for (const family of ['inet', 'inet6'] as const) {
      for (const port of ports) {
        const listed = await transport.dump(HOST_NETNS, NETLINK_NETFILTER, dumpFlows(family, protocol, port));
        for (const flow of decodeAll(listed, decodeFlow)) {
          if (flow.protocol !== flowProtocolNumber(protocol)) continue;
          const related = byPort.get(flow.original.destinationPort) ?? [];
          if (related.some((change) => isStale(change, flow, local, balancer))) flows.push(flow);
        }
      }
    }
  }
  return flows;
}

/** Whether a flow has to be deleted because this port was published or unpublished. */
export function isStale(
  { port, added, client, local: localNetwork }: FlowChange,
  { original, reply, zoned }: Flow,
  isLocal: (address: IpAddress) => boolean,
  balancer: ReadonlySet<IpAddress>,
): boolean {
  if (zoned || original.destinationPort !== port) return false;
  if (client !== undefined && !isWithin(original.source, client)) return false;
  if (localNetwork !== undefined && !isWithin(original.destination, localNetwork)) return false;
  if (!added) return balancer.has(reply.source);
  const untouched = reply.source === original.destination && reply.sourcePort === original.destinationPort;
  return untouched && isLocal(original.destination);
}

async function readLocalAddresses(transport: Transport): Promise<(address: IpAddress) => boolean> {
  const entries = decodeAll(await transport.dump(HOST_NETNS, NETLINK_ROUTE, dumpAddresses()), decodeAddress);
  const own = new Set(entries.map(({ address }) => address));
  return (address) => own.has(address) || address.startsWith('127.');
}
