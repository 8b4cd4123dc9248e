import type { Service, Task } from '../model/cluster.ts';
import { type PortSpec, publishedKey, type ServiceSpec } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';
import type { DecisionContext } from './context.ts';
import { isUp } from './endpoint-state.ts';
import type { TaskChanges } from './task-changes.ts';

/*
 * A fixed host mode port of a node is held by one task: it is assigned in the transaction that assigns the node, or later
 * when its service declares the port, and is free again when the task has ended or the service no longer has the port.
 */

/** Keys of the host mode ports that have a number, `8080/tcp`. */
export function fixedHostPorts(spec: Pick<ServiceSpec, 'ports'>): string[] {
  return spec.ports.flatMap(fixedPortKey);
}

function fixedPortKey(port: PortSpec): string[] {
  const key = port.mode === 'host' ? publishedKey(port) : undefined;
  return key === undefined ? [] : [key];
}

/** Ports held on a node. */
export function takenHostPorts(nodeId: string, context: Pick<DecisionContext, 'tasksOn'>): Set<string> {
  const live = context.tasksOn(nodeId).filter((task) => !isTerminal(task.status.state));
  return new Set(live.flatMap(({ hostPorts }) => hostPorts ?? []));
}

/** Whether another task holds a host port of this service on the task's node, so that it must move. */
export function hasHostPortConflict(task: Task, service: Service): boolean {
  return task.nodeId !== undefined && fixedHostPorts(service.spec).some((key) => !task.hostPorts?.includes(key));
}

/** Assigns and releases host ports after the service's ports have changed. */
export function updateHostPorts(changes: TaskChanges, service: Service): void {
  const required = fixedHostPorts(service.spec);
  const draining = (service.leaving ?? []).flatMap(({ port }) => fixedPortKey(port));
  const live = changes.all().filter((task) => task.nodeId !== undefined && !isTerminal(task.status.state));
  for (const task of live) {
    const kept = task.hostPorts?.filter((key) => required.includes(key) || draining.includes(key));
    if (kept?.length !== task.hostPorts?.length) changes.put(withHostPorts(task, kept!));
  }
  if (required.length === 0) return;
  for (const { id } of live.sort((a, b) => Number(isUp(b)) - Number(isUp(a)) || a.createdAt - b.createdAt)) {
    const task = changes.get(id)!;
    const missing = required.filter((key) => !task.hostPorts?.includes(key));
    if (missing.length === 0 || task.desired !== 'running') continue;
    const taken = takenHostPorts(task.nodeId!, changes.context);
    const free = missing.filter((key) => !taken.has(key));
    if (free.length > 0) changes.put(withHostPorts(task, [...(task.hostPorts ?? []), ...free]));
  }
}

export function withHostPorts({ hostPorts: _, ...task }: Task, held: string[]): Task {
  return held.length === 0 ? task : { ...task, hostPorts: held };
}
