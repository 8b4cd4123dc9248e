import type { AssignedPort, Assignment, AssignmentDelta, Peer } from '../model/assignment.ts';
import { sameValue } from '../model/equality.ts';
import { keyOf, stateOf } from '../model/kernel-state.ts';
import type { KeyedAssignment } from '../model/keyed-assignment.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import type { PolicyRule } from '../model/policy-rule.ts';
import { portKey } from '../model/spec.ts';
import { type NodeCapabilities, type PlanContext, planContext } from './context.ts';
import { keepsTimeouts, planIdleTimeouts } from './idle-timeouts.ts';
import { planPeer, planSharedRules } from './peer.ts';
import { planPort } from './port.ts';
import { planSkeleton } from './skeleton.ts';
import { planSourceRouting, unfollowedRules } from './source-routing.ts';
import { planTask } from './task.ts';

/**
 * The desired kernel state of this node: the union of independent contributions. Same input, same output, in the
 * same order. Empty while the node is not part of the ingress network.
 */
export function plan(assignment: Assignment, capabilities: NodeCapabilities): Map<string, KernelObject> {
  const context = planContext(assignment, capabilities);
  if (context === undefined) return new Map();
  return stateOf(planAll(context, assignment));
}

/** The part that follows from the host's own routing, which changes independent of the assignment. */
export function planHostRouting(
  assignment: Pick<Assignment, 'self' | 'networks'>,
  capabilities: NodeCapabilities,
): KernelObject[] {
  const context = planContext(assignment, capabilities);
  return context === undefined ? [] : planSourceRouting(context);
}

/** The rules of other programs that it cannot make answers follow; undefined while the host's routing is unknown. */
export function unfollowedHostRules(
  assignment: Pick<Assignment, 'self' | 'networks'>,
  capabilities: NodeCapabilities,
): PolicyRule[] | undefined {
  const context = planContext(assignment, capabilities);
  return context?.hostRouting === undefined ? undefined : unfollowedRules(context);
}

function* planAll(context: PlanContext, assignment: Assignment): Generator<KernelObject> {
  yield* planSkeleton(context);
  yield* planSourceRouting(context);
  yield* planIdleTimeouts(context, assignment.ports);
  yield* contributions(context, assignment);
}

function* contributions(
  context: PlanContext,
  parts: Pick<Assignment, 'peers' | 'tasks' | 'ports'>,
): Generator<KernelObject> {
  for (const peer of parts.peers) yield* planPeer(context, peer);
  for (const task of parts.tasks) yield* planTask(context, task);
  for (const port of parts.ports) yield* planPort(context, port);
}

/**
 * The plan of only what a delta changes, before and after it: `diff(stateOf(have), stateOf(want))` are the steps of
 * the change. The cost does not depend on the size of the rest.
 */
export function planDelta(
  before: KeyedAssignment,
  delta: AssignmentDelta,
  capabilities: NodeCapabilities,
): { have: KernelObject[]; want: KernelObject[] } {
  const context = planContext(before, capabilities);
  if (context === undefined) return { have: [], want: [] };
  const peers = new Set([...delta.removedPeers, ...delta.peers.map((peer) => peer.nodeId)]);
  const tasks = new Set([...delta.removedTasks, ...delta.tasks.map((task) => task.id)]);
  const ports = new Set([...delta.removedPorts, ...delta.ports.map(portKey)]);
  const touched = {
    peers: selectKeys(before.peers, peers),
    tasks: selectKeys(before.tasks, tasks),
    ports: selectKeys(before.ports, ports),
  };
  const have = [...contributions(context, touched)];
  const want = [...contributions(context, delta)];
  const shared = sharedWithOthers(context, withoutKeys(before.peers, peers), [...touched.peers, ...delta.peers]);
  const idleTimeouts = idleTimeoutChange(context, before.ports, ports, delta.ports);
  return { have: [...have, ...shared, ...idleTimeouts.have], want: [...want, ...shared, ...idleTimeouts.want] };
}

function selectKeys<T>(all: ReadonlyMap<string, T>, keys: ReadonlySet<string>): T[] {
  return [...keys].flatMap((key) => all.get(key) ?? []);
}

function* withoutKeys<T>(all: ReadonlyMap<string, T>, keys: ReadonlySet<string>): Generator<T> {
  for (const [key, item] of all) if (!keys.has(key)) yield item;
}

/** All ports of a protocol share one timeout; it is computed over all ports only if no unchanged port determines it. */
function idleTimeoutChange(
  context: PlanContext,
  before: ReadonlyMap<string, AssignedPort>,
  touched: ReadonlySet<string>,
  changed: readonly AssignedPort[],
): { have: KernelObject[]; want: KernelObject[] } {
  if (keepsTimeouts(withoutKeys(before, touched), [...selectKeys(before, touched), ...changed]))
    return { have: [], want: [] };
  const have = planIdleTimeouts(context, [...before.values()]);
  const want = planIdleTimeouts(context, [...withoutKeys(before, touched), ...changed]);
  return sameValue(have, want) ? { have: [], want: [] } : { have, want };
}

/** The rules that some peers share with others: independent of whether these peers are added or removed. */
function sharedWithOthers(context: PlanContext, others: Iterable<Peer>, peers: readonly Peer[]): KernelObject[] {
  const shared = stateOf(peers.flatMap((peer) => planSharedRules(context, peer)));
  if (shared.size === 0) return [];
  const kept = stateOf([...others].flatMap((peer) => planSharedRules(context, peer)));
  return [...shared.values()].filter((object) => kept.has(keyOf(object)));
}
