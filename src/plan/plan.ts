import type { AssignedPort, Assignment, AssignmentDelta } from '../model/assignment.ts';
import { type KernelObject, stateOf } from '../model/kernel-state.ts';
import { portKey } from '../model/spec.ts';
import { type Facts, type PlanContext, planContext } from './context.ts';
import { planPeer } from './peer.ts';
import { planPort } from './port.ts';
import { planSkeleton } from './skeleton.ts';
import { planTask } from './task.ts';

/**
 * What the kernel of this node should hold: the union of independent contributions. Same input, same output, in the
 * same order. Empty while the node has no place in the ingress network.
 */
export function plan(assignment: Assignment, facts: Facts): Map<string, KernelObject> {
  const context = planContext(assignment, facts);
  return stateOf(context === undefined ? [] : contributions(context, assignment, planSkeleton(context)));
}

function contributions(
  context: PlanContext,
  parts: Pick<Assignment, 'peers' | 'tasks' | 'ports'>,
  first: KernelObject[] = [],
): KernelObject[] {
  const objects = first;
  for (const peer of parts.peers) objects.push(...planPeer(context, peer));
  for (const task of parts.tasks) objects.push(...planTask(context, task));
  for (const port of parts.ports) objects.push(...planPort(context, port));
  return objects;
}

/**
 * The plan of only what a delta touches, before and after it: `diff(stateOf(have), stateOf(want))` are the steps of
 * the change. Plans nothing else, however much else there is; looks once along the lists of `before`.
 */
export function planDelta(
  before: Assignment,
  delta: AssignmentDelta,
  facts: Facts,
): { have: KernelObject[]; want: KernelObject[] } {
  const context = planContext(before, facts);
  if (context === undefined) return { have: [], want: [] };
  const peers = new Set([...delta.removedPeers, ...delta.peers.map((peer) => peer.nodeId)]);
  const tasks = new Set([...delta.removedTasks, ...delta.tasks.map((task) => task.id)]);
  const ports = new Set([...delta.removedPorts, ...delta.ports.map(portKey)]);
  const touched = {
    peers: peers.size === 0 ? [] : before.peers.filter((peer) => peers.has(peer.nodeId)),
    tasks: tasks.size === 0 ? [] : before.tasks.filter((task) => tasks.has(task.id)),
    ports: ports.size === 0 ? [] : before.ports.filter((port: AssignedPort) => ports.has(portKey(port))),
  };
  return { have: contributions(context, touched), want: contributions(context, delta) };
}
