import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Change, Store } from '../../store/store.ts';
import type { ClusterView, NodeObservations, OfferSource } from './cluster-view.ts';
import { createImpairments } from './impairments.ts';
import type { Leader } from './leader.ts';
import { nodeChanges } from './node-changes.ts';
import { createOrchestrator } from './orchestrator.ts';
import { serviceChanges } from './service-changes.ts';
import { createTaskReports } from './task-reports.ts';
import { createWriter } from './writer.ts';

export interface LeaderOptions {
  store: Store;
  view: ClusterView;
  observations: NodeObservations;
  offers: OfferSource;
  clock: Clock;
  log: Log;
}

/** The leading half of a manager. The caller passes every commit on, after the view has applied it. */
export interface LeadingHalf extends Leader {
  onCommit(changes: readonly Change[]): void;
  /** Decides about everything, as after a start. */
  start(): void;
  /** Resolves when nothing is being written any more. */
  stop(): Promise<void>;
}

export function createLeader(options: LeaderOptions): LeadingHalf {
  const { store, view, observations, clock, log } = options;
  const writer = createWriter();
  const orchestrator = createOrchestrator({ store, view, observations, writer, clock, log });
  const taskReports = createTaskReports({ store, view, writer, clock, log });
  const impairments = createImpairments({ store, view, observations, writer, clock, log });
  /** A change by a person is answered once its consequences are decided: a list of tasks requested next shows them. */
  async function change<T>(work: () => Promise<T>): Promise<T> {
    const result = await writer.run(work);
    await orchestrator.whenDecided();
    return result;
  }
  return {
    ...serviceChanges({ ...options, writer, change }),
    ...nodeChanges({ ...options, taskReports, writer, change }),
    reportTasks: taskReports.add,
    onConditions: impairments.update,
    onDrainProgress: orchestrator.onDrainProgress,
    onCommit: orchestrator.onCommit,
    start: orchestrator.markAllServices,
    async stop() {
      orchestrator.stop();
      taskReports.stop();
      impairments.stop();
      await writer.idle();
    },
  };
}
