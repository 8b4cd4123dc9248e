import { type AssignView, servicePorts } from '../decide/assign.ts';
import type { AssignedPort } from '../model/assignment.ts';
import type { Service } from '../model/cluster.ts';
import { sameValue } from '../model/equality.ts';
import { portKey } from '../model/spec.ts';

/** The published ports as every node has to know them, kept up to date service by service. */
export interface PortTable {
  get(key: string): AssignedPort | undefined;
  all(): AssignedPort[];
  /** Works out the ports of a service anew; `service` is undefined when it and its ghost are gone. Returns the keys that changed. */
  refresh(serviceId: string, service: Service | undefined, ghost: boolean): string[];
  /** Whether a task stands behind a port of its service. */
  serves(serviceId: string, taskId: string): boolean;
}

export function createPortTable(view: Pick<AssignView, 'networks' | 'node' | 'tasksOfService'>): PortTable {
  const ports = new Map<string, AssignedPort>();
  const keysOf = new Map<string, Set<string>>();
  return {
    get: (key) => ports.get(key),
    all: () => [...ports.values()],
    refresh(serviceId, service, ghost) {
      const changed: string[] = [];
      const had = keysOf.get(serviceId) ?? new Set<string>();
      const has = new Set<string>();
      for (const port of service === undefined ? [] : servicePorts(service, view)) {
        const key = portKey(port);
        const present = ports.get(key);
        // A removed service holds on to its port only until somebody else publishes it.
        if (ghost && present !== undefined && present.serviceId !== serviceId) continue;
        has.add(key);
        if (present !== undefined && sameValue(present, port)) continue;
        ports.set(key, port);
        changed.push(key);
      }
      for (const key of had) {
        if (has.has(key) || ports.get(key)?.serviceId !== serviceId) continue;
        ports.delete(key);
        changed.push(key);
      }
      if (has.size > 0) keysOf.set(serviceId, has);
      else keysOf.delete(serviceId);
      return changed;
    },
    serves(serviceId, taskId) {
      for (const key of keysOf.get(serviceId) ?? []) {
        const port = ports.get(key);
        if (port?.serviceId === serviceId && port.endpoints.some((endpoint) => endpoint.taskId === taskId)) return true;
      }
      return false;
    },
  };
}
