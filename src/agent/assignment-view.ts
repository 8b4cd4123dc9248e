import type { AssignedTask, Assignment, AssignmentDelta } from '../model/assignment.ts';
import type { KernelObject } from '../model/kernel-state.ts';
import { changeAssignment, type KeyedAssignment, keyedAssignment } from '../model/keyed-assignment.ts';
import type { Facts } from '../plan/context.ts';
import { plan, planDelta } from '../plan/plan.ts';

/**
 * The assignment as the kernel is to be made after it: the manager's, but with the tasks that need paths here now
 * (those that have ended need none, those that are still ending do, whatever the manager says).
 */
export interface AssignmentView {
  assignment: KeyedAssignment;
  want: Map<string, KernelObject>;
}

export function wholeView(assigned: Assignment, shown: AssignedTask[], facts: Facts): AssignmentView {
  const assignment = { ...assigned, tasks: shown };
  return { assignment: keyedAssignment(assignment), want: plan(assignment, facts) };
}

/** Changes a view by a delta of the manager, or the end of tasks here; gives what becomes of what. Costs what it changes. */
export function changeView(
  view: KeyedAssignment,
  change: Partial<AssignmentDelta>,
  shownTask: (taskId: string) => AssignedTask | undefined,
  facts: Facts,
): { had: KernelObject[]; want: KernelObject[] } {
  const touched = new Set([...(change.tasks ?? []).map(({ id }) => id), ...(change.removedTasks ?? [])]);
  const tasks: AssignedTask[] = [];
  const removedTasks: string[] = [];
  for (const id of touched) {
    const task = shownTask(id);
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
  const planned = planDelta(view, delta, facts);
  const done = changeAssignment(view, delta);
  if (!done.ok) throw done.error;
  return { had: planned.have, want: planned.want };
}
