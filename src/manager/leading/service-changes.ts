import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import { hostListeners } from '../../decide/port-conflicts.ts';
import type { Service } from '../../model/cluster.ts';
import type { Store } from '../../store/store.ts';
import { admitSpecs } from './admission.ts';
import type { ClusterView, NodeObservations, OfferSource } from './cluster-view.ts';
import { dryRun } from './dry-run.ts';
import type { Leader } from './leader.ts';
import { put, type Writer } from './writer.ts';

export interface ServiceChangesOptions {
  store: Store;
  view: ClusterView;
  observations: NodeObservations;
  offers: OfferSource;
  writer: Writer;
  /** Runs alone, and resolves once what follows from it is decided. */
  change<T>(work: () => Promise<T>): Promise<T>;
  clock: Clock;
  log: Log;
}

/** Changes that people make to services. */
export function serviceChanges(
  options: ServiceChangesOptions,
): Pick<Leader, 'applyServices' | 'removeServices' | 'planServices'> {
  const { store, view, observations, offers, writer, change, clock, log } = options;
  const listeners = () => hostListeners(view.nodes(), observations.listeners);
  return {
    applyServices: (specs, checkOnly) =>
      change(async () => {
        const { admitted, writes } = admitSpecs(specs(), view, clock.now(), listeners());
        if (checkOnly || writes.length === 0) return admitted;
        await store.transact(writes);
        for (const { name, action, changes } of admitted)
          if (action !== 'unchanged') log.info({ service: name, changes }, `service ${name} ${action}`);
        return admitted;
      }),
    removeServices: (select) =>
      change(async () => {
        const selected = select();
        const now = clock.now();
        const removed = (service: Service): Service => ({ ...service, removed: true, updatedAt: now });
        if (selected.length > 0) await store.transact(selected.map((service) => put('services', removed(service))));
        for (const { name } of selected) log.info({ service: name }, `service ${name} removed`);
        return selected;
      }),
    planServices: (specs) =>
      writer.run(async () => {
        const { admitted, services } = admitSpecs(specs, view, clock.now(), listeners());
        return { admitted, assignmentOf: dryRun(services, view, observations, offers, clock.now()) };
      }),
  };
}
