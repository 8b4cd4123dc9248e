import type { Clock } from '../../base/clock.ts';
import { MeshError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { Assignment, AssignmentDelta } from '../../model/assignment.ts';
import { condition } from '../../model/condition.ts';
import type { AgentDisk } from '../agent-disk.ts';
import type { Conditions } from '../conditions.ts';
import type { NodeWatch } from '../node/node-watch.ts';
import type { PortWatch } from '../ports/port-watch.ts';
import type { DrainWatch } from '../tasks/drain-watch.ts';
import type { TaskSupervisor } from '../tasks/task-supervisor.ts';
import {
  INITIAL_SOURCE,
  nextSource,
  type SourceEffect,
  type SourceEvent,
  type SourceState,
} from './assignment-source.ts';
import type { CurrentAssignment } from './current-assignment.ts';
import type { Reconciler } from './reconciler.ts';

export interface AssignmentFollowerOptions {
  current: CurrentAssignment;
  reconciler: Pick<Reconciler, 'start'>;
  tasks: Pick<TaskSupervisor, 'assign' | 'assignAll'>;
  drains: DrainWatch;
  portWatch: Pick<PortWatch, 'portsChanged'>;
  nodeWatch: Pick<NodeWatch, 'assignmentChanged'>;
  disk: AgentDisk;
  conditions: Conditions;
  clock: Clock;
  log: Log;
  /** Called with the number of ports before a whole assignment is planned. */
  onAssignment?: ((ports: number) => void) | undefined;
}

/** Applies what the manager, or the disk while there is none, assigns to this node. */
export interface AssignmentFollower {
  /** To be called once, before any other. */
  load(saved: Assignment | undefined): void;
  onSnapshot(assignment: Assignment): void;
  /** Throws MeshError `conflict` for a delta that does not follow from what the manager sent before. */
  onDelta(delta: AssignmentDelta): void;
  onUnreachable(reason: string): void;
  source(): SourceState['source'];
  /** Writes the assignment to disk soon. */
  save(): void;
}

export function createAssignmentFollower(options: AssignmentFollowerOptions): AssignmentFollower {
  const { current, tasks, drains, portWatch, nodeWatch, disk, conditions, clock, log } = options;
  let startedAt = 0;
  let state = INITIAL_SOURCE;

  function dispatch(event: SourceEvent): void {
    const next = nextSource(state, event);
    if (next.state.source !== state.source)
      log.debug({ from: state.source, to: next.state.source }, 'the source of the assignment changed');
    state = next.state;
    next.effects.forEach(execute);
  }

  function execute(effect: SourceEffect): void {
    switch (effect.kind) {
      case 'startReconciling':
        options.reconciler.start();
        return;
      case 'logSavedAssignment':
        log.warn(`no manager reachable; using the last assignment (revision ${effect.revision})`);
        return;
      case 'logRollback':
        log.error(
          { revision: effect.revision, manager: effect.managerRevision },
          "the manager's revision is older than this node's: its store was rolled back or restored from a backup. Following the manager.",
        );
    }
  }

  function applyWhole(assignment: Assignment): void {
    options.onAssignment?.(assignment.ports.length);
    current.replace(assignment);
    drains.clear();
    drains.update(assignment.ports, []);
    portWatch.portsChanged();
    nodeWatch.assignmentChanged();
  }

  function save(): void {
    if (current.isKnown()) disk.saveAssignment(() => current.assignment()!);
  }

  return {
    load(saved) {
      startedAt = clock.monotonic();
      if (saved === undefined) return;
      // The disk may lag behind: a task that it does not know is left as it is.
      tasks.assign(saved.tasks, []);
      applyWhole(saved);
      dispatch({ kind: 'loaded', revision: saved.revision });
    },
    onSnapshot(assignment) {
      tasks.assignAll(assignment.tasks);
      applyWhole(assignment);
      save();
      dispatch({ kind: 'snapshot', revision: assignment.revision });
      conditions.clear('ManagerUnreachable');
    },
    onDelta(delta) {
      if (state.source !== 'manager') throw new MeshError('conflict', 'the manager sent a delta before a snapshot');
      current.applyDelta(delta);
      dispatch({ kind: 'delta', revision: delta.revision });
      if (delta.ports.length + delta.removedPorts.length > 0) portWatch.portsChanged();
      if (delta.peers.length + delta.removedPeers.length > 0) nodeWatch.assignmentChanged();
      drains.update(delta.ports, delta.removedPorts);
      save();
    },
    onUnreachable(reason) {
      conditions.raise(condition('ManagerUnreachable', { reason }));
      dispatch({ kind: 'unreachable', waited: clock.monotonic() - startedAt });
    },
    source: () => state.source,
    save,
  };
}
