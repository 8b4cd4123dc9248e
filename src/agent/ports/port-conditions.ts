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

/** Whether this node does not publish a port because sshd (or meshd) listens on it: the node must stay reachable. */
export function isWithheld(port: Port, listeners: ListenersByPort): boolean {
  return conflictingListeners(port, listeners).some((listener) => listener.protected);
}

/** Conflicts between programs of the host and published ports. */
export function listenerConditions(ports: readonly Port[], listeners: ListenersByPort): PortCondition[] {
  return ports.flatMap((port): PortCondition[] => {
    const affected = conflictingListeners(port, listeners);
    if (affected.length === 0) return [];
    const { protocol, published } = port;
    const reserving = affected.filter((listener) => listener.protected);
    if (reserving.length > 0) {
      const message =
        `${describeListeners(reserving)}; this node does not publish the port. ` +
        'Publish another port, or exclude the node with `x-mesh: {ingress: {nodes: […]}}`';
      return [{ protocol, published, kind: 'withheld', message }];
    }
    const where =
      port.addresses === undefined
        ? ''
        : ` for connections to ${port.addresses.slice(0, MAX_NAMED).join(', ')}${port.addresses.length > MAX_NAMED ? ' …' : ''}`;
    const message = `${describeListeners(affected)}; the published port takes precedence${where}`;
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
