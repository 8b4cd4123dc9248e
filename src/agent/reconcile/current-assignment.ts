import { MeshError } from '../../base/errors.ts';
import type { Cidr, IpAddress } from '../../model/address.ts';
import type { AssignedPort, Assignment, AssignmentDelta } from '../../model/assignment.ts';
import type { Op } from '../../model/kernel-state.ts';
import { applyDelta, type KeyedAssignment, keyedAssignment, toAssignment } from '../../model/keyed-assignment.ts';
import type { HostRouting } from '../../model/policy-rule.ts';
import { portKey } from '../../model/spec.ts';
import type { NodeCapabilities } from '../../plan/context.ts';
import { planHostRouting } from '../../plan/plan.ts';
import type { PortWatch } from '../ports/port-watch.ts';
import type { TaskSupervisor } from '../tasks/task-supervisor.ts';
import { type AssignmentView, createView, updateView } from './assignment-view.ts';
import type { Reconciler } from './reconciler.ts';
import { createServiceOwners } from './service-owners.ts';

export interface CurrentAssignmentOptions {
  capabilities(): NodeCapabilities;
  reconciler: Pick<Reconciler, 'setDesired' | 'patchDesired'>;
  tasks: Pick<TaskSupervisor, 'assign' | 'exposed' | 'exposedTask'>;
  ports: Pick<PortWatch, 'filterPublishable' | 'isPublishable'>;
}

/**
 * The assignment of this node, and the desired kernel state that follows from it, from the tasks that have paths and from
 * the ports that this node may publish.
 */
export interface CurrentAssignment {
  isKnown(): boolean;
  /** Plans everything again: the capabilities changed. */
  replanAll(): void;
  /** A copy of its lists. */
  assignment(): Assignment | undefined;
  ports(): AssignedPort[];
  /** Underlay addresses of the other nodes. */
  peers(): IpAddress[];
  /** Subnets of the overlay networks. */
  overlay(): Cidr[];
  /** An assignment without the ports that this node may not publish, and without the tasks that have ended here. */
  withLocalState(assignment: Assignment): Assignment;
  /** Replaces all of it. */
  replace(assignment: Assignment): void;
  /** Throws MeshError when the delta does not apply to the assignment. */
  applyDelta(delta: AssignmentDelta): void;
  /** Plans parts of it again: tasks that lost their paths, ports that this node may or may not publish any more. */
  replan(change: Partial<AssignmentDelta>): void;
  /** Plans again what follows from the host's own routing, which was as in `before`. */
  replanHostRouting(before: HostRouting | undefined): void;
  /** Names of the services that some operations are for. */
  servicesOf(ops: readonly Op[]): string[];
}

export function createCurrentAssignment(options: CurrentAssignmentOptions): CurrentAssignment {
  const { capabilities, reconciler, tasks } = options;
  const owners = createServiceOwners();
  let assigned: KeyedAssignment | undefined;
  let view: AssignmentView['assignment'] | undefined;

  function replan(change: Partial<AssignmentDelta>): void {
    if (view === undefined) return;
    const { had, want } = updateView(view, change, (id) => tasks.exposedTask(id), capabilities());
    reconciler.patchDesired(had, want, view.revision);
  }

  function planAll(assignment: Assignment): void {
    const ports = options.ports.filterPublishable(assignment.ports);
    const whole = createView({ ...assignment, ports }, tasks.exposed(), capabilities());
    view = whole.assignment;
    reconciler.setDesired(whole.want, assignment.revision);
  }

  return {
    isKnown: () => assigned !== undefined,
    replanAll() {
      if (assigned !== undefined) planAll(toAssignment(assigned));
    },
    assignment: () => assigned && toAssignment(assigned),
    ports: () => [...(assigned?.ports.values() ?? [])],
    peers: () => [...(assigned?.peers.values() ?? [])].map(({ underlay }) => underlay),
    overlay: () => (assigned?.networks ?? []).flatMap(({ subnets }) => subnets.map(({ cidr }) => cidr)),
    withLocalState(assignment) {
      const ended = new Set([...(assigned?.tasks.keys() ?? [])].filter((id) => tasks.exposedTask(id) === undefined));
      return {
        ...assignment,
        ports: assignment.ports.filter(options.ports.isPublishable),
        tasks: assignment.tasks.filter(({ id }) => !ended.has(id)),
      };
    },
    replace(assignment) {
      assigned = keyedAssignment(assignment);
      owners.update(assignment.ports, assignment.tasks);
      planAll(assignment);
    },
    applyDelta(delta) {
      if (assigned === undefined) throw new MeshError('conflict', 'the manager sent a delta before a snapshot');
      const done = applyDelta(assigned, delta);
      if (!done.ok) throw done.error;
      owners.update(delta.ports, delta.tasks);
      tasks.assign(delta.tasks, delta.removedTasks);
      const ports = options.ports.filterPublishable(delta.ports);
      const withheld = delta.ports.filter((port) => !ports.includes(port)).map(portKey);
      replan({ ...delta, ports, removedPorts: [...delta.removedPorts, ...withheld] });
    },
    replan,
    replanHostRouting(before) {
      if (view === undefined) return;
      const had = planHostRouting(view, { ...capabilities(), hostRouting: before });
      reconciler.patchDesired(had, planHostRouting(view, capabilities()), view.revision);
    },
    servicesOf: (ops) => owners.servicesOf(ops),
  };
}
