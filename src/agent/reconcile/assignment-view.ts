import type { AssignedTask, Assignment, AssignmentDelta } from '../../model/assignment.ts';
import type { KernelObject } from '../../model/kernel-state.ts';
import { applyDelta, type KeyedAssignment, keyedAssignment } from '../../model/keyed-assignment.ts';
import type { NodeCapabilities } from '../../plan/context.ts';
import { plan, planDelta } from '../../plan/plan.ts';

/**
 * The assignment as the kernel is to be made after it: the manager's, but with the tasks that need paths here now
 * (those that have ended need none, those that are still ending do, whatever the manager says).
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
  const assignment = { ...assigned, tasks: tasks };
  return { assignment: keyedAssignment(assignment), want: plan(assignment, capabilities) };
}

/** Changes a view by a delta of the manager, or the end of tasks here; gives what becomes of what. Costs what it changes. */
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
