import { isTerminal, type Service, type Task } from '../model/cluster.ts';
import { type PortSpec, publishedKey, type ServiceSpec } from '../model/spec.ts';
import type { Context } from './context.ts';
import { isUp } from './serve.ts';
import type { Work } from './work.ts';

/*
 * A fixed host mode port of a node is held by one task: it is given to it in the transaction that gives it the node, or
 * later when its service declares the port, and is free again when the task has ended or the port has left the service.
 */

/** Keys of the host mode ports that have a number, `8080/tcp`. */
export function fixedHostPorts(spec: Pick<ServiceSpec, 'ports'>): string[] {
  return spec.ports.flatMap(keyOf);
}

function keyOf(port: PortSpec): string[] {
  const key = port.mode === 'host' ? publishedKey(port) : undefined;
  return key === undefined ? [] : [key];
}

/** What is held on a node. */
export function takenHostPorts(nodeId: string, context: Pick<Context, 'tasksOn'>): Set<string> {
  const live = context.tasksOn(nodeId).filter((task) => !isTerminal(task.status.state));
  return new Set(live.flatMap(({ hostPorts }) => hostPorts ?? []));
}

/** Whether another task has, on its node, a host port that this one should have: it has to go elsewhere. */
export function isCrowdedOut(task: Task, service: Service): boolean {
  return task.nodeId !== undefined && fixedHostPorts(service.spec).some((key) => !task.hostPorts?.includes(key));
}

/** Gives and takes host ports after the service's ports have changed under its tasks. */
export function settleHostPorts(work: Work, service: Service): void {
  const wanted = fixedHostPorts(service.spec);
  const leaving = (service.leaving ?? []).flatMap(({ port }) => keyOf(port));
  const live = work.all().filter((task) => task.nodeId !== undefined && !isTerminal(task.status.state));
  for (const task of live) {
    const kept = task.hostPorts?.filter((key) => wanted.includes(key) || leaving.includes(key));
    if (kept?.length !== task.hostPorts?.length) work.put(withHostPorts(task, kept!));
  }
  if (wanted.length === 0) return;
  for (const { id } of live.sort((a, b) => Number(isUp(b)) - Number(isUp(a)) || a.createdAt - b.createdAt)) {
    const task = work.get(id)!;
    const missing = wanted.filter((key) => !task.hostPorts?.includes(key));
    if (missing.length === 0 || task.desired !== 'running') continue;
    const taken = takenHostPorts(task.nodeId!, work.context);
    const free = missing.filter((key) => !taken.has(key));
    if (free.length > 0) work.put(withHostPorts(task, [...(task.hostPorts ?? []), ...free]));
  }
}

export function withHostPorts({ hostPorts: _, ...task }: Task, held: string[]): Task {
  return held.length === 0 ? task : { ...task, hostPorts: held };
}
