import { familyOf } from '../model/address.ts';
import type { AssignedPort, Endpoint } from '../model/assignment.ts';
import type { KernelObject } from '../model/kernel-state.ts';
import { LB_NETNS, portMark, serviceSet } from '../model/names.ts';
import { planAccess } from './access.ts';
import type { PlanContext } from './context.ts';

/**
 * A published port: one fwmark service per family with its tasks as real servers, and the port's entry in both sets.
 * Without tasks it stays published: IPVS answers port unreachable, and the client's connection is refused at once
 * instead of hanging or reaching something else that listens on the host.
 * Host mode binds a port on one node only and is no part of the mesh.
 */
export function planPort(context: PlanContext, port: AssignedPort): KernelObject[] {
  if (port.mode !== 'ingress') return [];
  const fwmark = portMark(port.protocol, port.published);
  const objects: KernelObject[] = [];
  for (const { family } of context.subnets) {
    objects.push({ kind: 'virtual-service', netns: LB_NETNS, family, fwmark, scheduler: port.scheduler });
    for (const endpoint of port.endpoints) {
      if (familyOf(endpoint.address) !== family || !keepsConnections(port, endpoint)) continue;
      const { address, port: target, weight } = endpoint;
      objects.push({ kind: 'real-server', netns: LB_NETNS, family, fwmark, address, port: target, weight });
    }
  }
  objects.push(
    { kind: 'set-member', netns: LB_NETNS, set: serviceSet(port.protocol), port: port.published, mark: fwmark },
    ...planAccess(context, port),
  );
  return objects;
}

/**
 * UDP has no connections to drain: with weight 0 a client that never stops sending would keep its dead task for ever.
 * Gone from the balancer, its next packet ends the entry (expire_nodest_conn) and the one after goes to a live task.
 */
function keepsConnections(port: AssignedPort, endpoint: Endpoint): boolean {
  return endpoint.weight > 0 || port.protocol !== 'udp';
}
