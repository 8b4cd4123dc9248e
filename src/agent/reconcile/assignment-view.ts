import type { AssignedTask, Assignment, AssignmentDelta } from '../../model/assignment.ts';
import { applyDelta, type KeyedAssignment, keyedAssignment } from '../../model/keyed-assignment.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import type { NodeCapabilities } from '../../plan/context.ts';
import { plan, planDelta } from '../../plan/plan.ts';

/**
 * The assignment from which the desired kernel state follows: the manager's, with the tasks that need paths here now
 * (tasks that have ended need none, tasks that are still stopping do, regardless of the assignment).
 */
export interface AssignmentView {
  assignment: KeyedAssignment;
  want: Map<string, KernelObject>;
}

export function createView(
  assigned: Assignment,
  tasks: AssignedTask[],
  capabilities: NodeCapabilities,
): AssignmentView {
  const assignment = { ...assigned, tasks };
  return { assignment: keyedAssignment(assignment), want: plan(assignment, capabilities) };
}

/** Applies a delta, or the end of tasks here, to a view; returns the changed objects. Costs what it changes. */
export function updateView(
  view: KeyedAssignment,
  change: Partial<AssignmentDelta>,
  exposedTask: (taskId: string) => AssignedTask | undefined,
  capabilities: NodeCapabilities,
): { had: KernelObject[]; want: KernelObject[] } {
  const taskIds = new Set([...(change.tasks ?? []).map(({ id }) => id), ...(change.removedTasks ?? [])]);
  const tasks: AssignedTask[] = [];
  const removedTasks: string[] = [];
  for (const id of taskIds) {
    const task = exposedTask(id);
    if (task === undefined) removedTasks.push(id);
    else tasks.push(task);
  }
  const delta: AssignmentDelta = {
    base: view.revision,
    revision: change.revision ?? view.revision,
    peers: change.peers ?? [],
    ports: change.ports ?? [],
    tasks,
    removedPeers: change.removedPeers ?? [],
    removedPorts: change.removedPorts ?? [],
    removedTasks,
  };
  const planned = planDelta(view, delta, capabilities);
  const changed = applyDelta(view, delta);
  if (!changed.ok) throw changed.error;
  return { had: planned.have, want: planned.want };
}
