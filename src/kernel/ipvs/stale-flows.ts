import type { Cidr, IpAddress } from '../../model/address.ts';
import { familyOf } from '../../model/address.ts';
import { isLinkLocal, isWithin } from '../../model/block.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { atSet, fromSet, HOST_NETNS, publishedSet } from '../../model/linux-names.ts';
import type { Flow, FlowProtocol } from '../../netlink/conntrack.ts';

/*
 * NAT is decided for the first packet of a flow, and an entry of the host's connection tracking exists as long as
 * packets arrive. TCP reconnects; a UDP client that never stops sending keeps the decision for ever, also when what it
 * was made from has changed: the port was published or unpublished, the rules were away for a while, or the address
 * was not yet an address of the host. After such a change these entries are deleted, and no others: those to local
 * addresses without NAT, or with our NAT. end-flows.ts does it.
 */

export const FLOW_PROTOCOLS: readonly FlowProtocol[] = ['udp', 'sctp'];

/** A port whose flows were decided by what no longer holds. */
export interface FlowChange {
  protocol: FlowProtocol;
  port: number;
  /** Packets to it are now translated; false: no longer. */
  added: boolean;
  /** Only flows between these; of both families and all addresses when undefined. */
  client?: Cidr;
  local?: Cidr;
}

/** How the operations of an apply affect flows; `desired`: everything that the node should hold. */
export function flowChanges(ops: readonly Op[], desired: () => Iterable<KernelObject>): FlowChange[] {
  const changes = ops.flatMap(({ verb, object }) => (verb === 'change' ? [] : portChange(object, verb === 'create')));
  return ops.some(installsTranslation) ? [...changes, ...publishedPorts(desired())] : changes;
}

/** The published UDP and SCTP ports among the objects of a node, as if each had been added just now. */
export function publishedPorts(objects: Iterable<KernelObject>): FlowChange[] {
  const ports: FlowChange[] = [];
  for (const object of objects) ports.push(...portChange(object, true));
  return ports;
}

/** Whether packets may have passed the host untranslated before this operation: it adds or repairs rules of the nat table. */
function installsTranslation({ verb, object }: Op): boolean {
  const isRule = object.kind === 'chain' || object.kind === 'jump';
  return verb !== 'delete' && isRule && object.netns === HOST_NETNS && object.table === 'nat';
}

function portChange(object: KernelObject, added: boolean): FlowChange[] {
  if (object.netns !== HOST_NETNS) return [];
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
}

/** Whether a flow has to be deleted because of this change. */
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
  return untouched && !isLinkLocal(original.destination) && isLocal(original.destination);
}
