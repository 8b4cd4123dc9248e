import type { AssignedTask, Assignment, AssignmentDelta } from '../model/assignment.ts';
import { applyAssignmentDelta } from '../model/assignment-delta.ts';
import type { KernelObject } from '../model/kernel-state.ts';
import type { Facts } from '../plan/context.ts';
import { plan, planDelta } from '../plan/plan.ts';

/**
 * The assignment as the kernel is to be made after it: the manager's, but with the tasks that need paths here now
 * (those that have ended need none, those that are still ending do, whatever the manager says).
 */
export interface AssignmentView {
  assignment: Assignment;
  want: Map<string, KernelObject>;
}

export function wholeView(assigned: Assignment, shown: AssignedTask[], facts: Facts): AssignmentView {
  const assignment = { ...assigned, tasks: shown };
  return { assignment, want: plan(assignment, facts) };
}

/** What a delta of the manager, or the end of tasks here, changes of a view. Costs what it changes. */
export function changedView(
  before: Assignment,
  change: Partial<AssignmentDelta>,
  shownTask: (taskId: string) => AssignedTask | undefined,
  facts: Facts,
): { assignment: Assignment; had: KernelObject[]; want: KernelObject[] } {
  const touched = new Set([...(change.tasks ?? []).map(({ id }) => id), ...(change.removedTasks ?? [])]);
  const tasks: AssignedTask[] = [];
  const removedTasks: string[] = [];
  for (const id of touched) {
    const task = shownTask(id);
    if (task === undefined) removedTasks.push(id);
    else tasks.push(task);
  }
  const delta: AssignmentDelta = {
    base: before.revision,
    revision: change.revision ?? before.revision,
    peers: change.peers ?? [],
    ports: change.ports ?? [],
    tasks,
    removedPeers: change.removedPeers ?? [],
    removedPorts: change.removedPorts ?? [],
    removedTasks,
  };
  const after = applyAssignmentDelta(before, delta);
  if (!after.ok) throw after.error;
  const planned = planDelta(before, delta, facts);
  return { assignment: after.value, had: planned.have, want: planned.want };
}
