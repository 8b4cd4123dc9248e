import type { AssignedPort } from '../../model/assignment.ts';
import type { Listener, PortCondition } from '../../model/cluster.ts';
import { formatHostPort } from '../../model/host-port.ts';
import { coversAddress, listenerName } from '../../model/listener.ts';
import { portKey } from '../../model/spec.ts';

/** Listeners of the host by `8080/tcp`. */
export type ListenersByPort = ReadonlyMap<string, readonly Listener[]>;

type Port = Pick<AssignedPort, 'protocol' | 'published' | 'addresses'>;

/** Programs that one message names. */
const MAX_NAMED = 3;

export function groupByPort(listeners: readonly Listener[]): ListenersByPort {
  const groups = new Map<string, Listener[]>();
  for (const listener of listeners) {
    const key = portKey({ protocol: listener.protocol, published: listener.port });
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [listener]);
    else group.push(listener);
  }
  return groups;
}

/** Whether this node leaves a port alone, for sshd (or meshd) listens on it: a port lost to the mesh, no node lost. */
export function isWithheld(port: Port, listeners: ListenersByPort): boolean {
  return conflictingListeners(port, listeners).some((listener) => listener.protected);
}

/** What programs of the host and published ports take from each other. */
export function listenerConditions(ports: readonly Port[], listeners: ListenersByPort): PortCondition[] {
  return ports.flatMap((port): PortCondition[] => {
    const affected = conflictingListeners(port, listeners);
    if (affected.length === 0) return [];
    const { protocol, published } = port;
    const reserving = affected.filter((listener) => listener.protected);
    if (reserving.length > 0) {
      const message =
        `${describeListeners(reserving)} and keeps the port: this node does not take it for the service. ` +
        'Publish another port, or leave the node out with `x-mesh: {ingress: {nodes: […]}}`';
      return [{ protocol, published, kind: 'withheld', message }];
    }
    const where =
      port.addresses === undefined
        ? ''
        : ` to ${port.addresses.slice(0, MAX_NAMED).join(', ')}${port.addresses.length > MAX_NAMED ? ' …' : ''}`;
    const message = `${describeListeners(affected)} and gets no connections${where} while the port is published`;
    return [{ protocol, published, kind: 'taken', message }];
  });
}

function conflictingListeners(port: Port, listeners: ListenersByPort): Listener[] {
  return (listeners.get(portKey(port)) ?? []).filter(({ address }) => coversAddress(address, port.addresses));
}

/** `nginx (pid 812) listens on 0.0.0.0:8080, [::]:8080` */
function describeListeners(listeners: readonly Listener[]): string {
  const places = new Map<string, string[]>();
  for (const listener of listeners) {
    const name = listenerName(listener);
    places.set(name, [...(places.get(name) ?? []), formatHostPort(listener.address, listener.port)]);
  }
  const named = [...places]
    .slice(0, MAX_NAMED)
    .map(([name, at]) => `${name} listens on ${at.slice(0, MAX_NAMED).join(', ')}`);
  return named.join(' and ') + (places.size > MAX_NAMED ? ` (and ${places.size - MAX_NAMED} more)` : '');
}
