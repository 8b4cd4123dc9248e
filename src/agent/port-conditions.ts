import type { AssignedPort } from '../model/assignment.ts';
import type { Listener, PortCondition } from '../model/cluster.ts';
import { keepsPort, listenerName, socketText, takesFrom } from '../model/listener.ts';
import { portKey } from '../model/spec.ts';

/** Listeners of the host by `8080/tcp`. */
export type ListenersByPort = ReadonlyMap<string, readonly Listener[]>;

type Port = Pick<AssignedPort, 'protocol' | 'published' | 'addresses'>;

/** Programs that one message names. */
const NAMED = 3;

export function byPort(listeners: readonly Listener[]): ListenersByPort {
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
  return met(port, listeners).some(keepsPort);
}

/** What programs of the host and published ports take from each other. */
export function listenerConditions(ports: readonly Port[], listeners: ListenersByPort): PortCondition[] {
  return ports.flatMap((port): PortCondition[] => {
    const here = met(port, listeners);
    if (here.length === 0) return [];
    const { protocol, published } = port;
    const keepers = here.filter(keepsPort);
    if (keepers.length > 0) {
      const message =
        `${words(keepers)} and keeps the port: this node does not take it for the service. ` +
        'Publish another port, or leave the node out with `x-mesh: {ingress: {nodes: […]}}`';
      return [{ protocol, published, kind: 'withheld', message }];
    }
    const where =
      port.addresses === undefined
        ? ''
        : ` to ${port.addresses.slice(0, NAMED).join(', ')}${port.addresses.length > NAMED ? ' …' : ''}`;
    const message = `${words(here)} and gets no connections${where} while the port is published`;
    return [{ protocol, published, kind: 'taken', message }];
  });
}

function met(port: Port, listeners: ListenersByPort): Listener[] {
  return (listeners.get(portKey(port)) ?? []).filter(({ address }) => takesFrom(address, port.addresses));
}

/** `nginx (pid 812) listens on 0.0.0.0:8080, [::]:8080` */
function words(listeners: readonly Listener[]): string {
  const places = new Map<string, string[]>();
  for (const listener of listeners) {
    const name = listenerName(listener);
    places.set(name, [...(places.get(name) ?? []), socketText(listener.address, listener.port)]);
  }
  const named = [...places].slice(0, NAMED).map(([name, at]) => `${name} listens on ${at.slice(0, NAMED).join(', ')}`);
  return named.join(' and ') + (places.size > NAMED ? ` (and ${places.size - NAMED} more)` : '');
}
