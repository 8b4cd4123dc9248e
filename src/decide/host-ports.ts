import type { Service, Task } from '../model/cluster.ts';
import { type PortSpec, publishedKey, type ServiceSpec } from '../model/spec.ts';
import { isTerminal } from '../model/task-state.ts';
import type { DecisionContext } from './context.ts';
import { isUp } from './endpoint-state.ts';
import type { TaskChanges } from './task-changes.ts';

/*
 * A fixed host mode port of a node is held by one task: it is given to it in the transaction that gives it the node, or
 * later when its service declares the port, and is free again when the task has ended or the port has left the service.
 */

/** Keys of the host mode ports that have a number, `8080/tcp`. */
export function fixedHostPorts(spec: Pick<ServiceSpec, 'ports'>): string[] {
  return spec.ports.flatMap(fixedPortKey);
}

function fixedPortKey(port: PortSpec): string[] {
  const key = port.mode === 'host' ? publishedKey(port) : undefined;
  return key === undefined ? [] : [key];
}

/** What is held on a node. */
export function takenHostPorts(nodeId: string, context: Pick<DecisionContext, 'tasksOn'>): Set<string> {
  const live = context.tasksOn(nodeId).filter((task) => !isTerminal(task.status.state));
  return new Set(live.flatMap(({ hostPorts }) => hostPorts ?? []));
}

/** Whether another task has, on its node, a host port that this one should have: it has to go elsewhere. */
export function hasHostPortConflict(task: Task, service: Service): boolean {
  return task.nodeId !== undefined && fixedHostPorts(service.spec).some((key) => !task.hostPorts?.includes(key));
}

/** Gives and takes host ports after the service's ports have changed under its tasks. */
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
