import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import { portKey } from '../model/spec.ts';
import type { Control } from '../rpc/gen/mesh_pb.js';
import type { SessionHandler } from '../rpc/grpc-server.ts';
import type { Handlers } from '../rpc/service.ts';
import type { Store } from '../store/store.ts';
import { bootstrap, type ClusterOptions } from './leading/bootstrap.ts';
import { createOrchestrator } from './leading/orchestrator.ts';
import { createTaskReports } from './leading/task-reports.ts';
import { createWriter } from './leading/writer.ts';
import { assignmentChanges } from './serving/assignment-changes.ts';
import { createClusterIndex } from './serving/cluster-index.ts';
import { controlHandlers } from './serving/control.ts';
import { createDispatcher } from './serving/dispatcher.ts';
import { createNodeReports } from './serving/node-reports.ts';
import { createPortTable } from './serving/port-table.ts';
import { createPresenter } from './serving/presenter.ts';
import { createWatchFeeds } from './serving/watch-feed.ts';

/*
 * What should be. Requests (control.ts), agents' reports (dispatcher.ts) and due times lead to decisions
 * (conductor.ts over src/decide); each is one transaction of the store; each commit goes from here, in order, into the
 * index, and from there to nodes (session-feed.ts), watchers and the next decisions.
 */

export interface ManagerOptions extends ClusterOptions {
  store: Store;
  clock: Clock;
  log: Log;
  version: string;
}

export interface Manager {
  clusterId: string;
  handlers: { control: Handlers<typeof Control>; serveSession: SessionHandler };
  /** Begins to decide; call it once the handlers can be reached. */
  start(): void;
  /** Ends sessions and watches and waits for what is being written; the store stays open. */
  stop(): Promise<void>;
}

/** Errors as in bootstrap.ts. The store stays the caller's, but nobody else may write to it. */
export async function createManager(options: ManagerOptions): Promise<Manager> {
  const { store, clock, log } = options;
  const clusterId = await bootstrap(store, options, clock.now());
  const index = createClusterIndex(store);
  const table = createPortTable(index);
  for (const service of index.services()) table.refresh(service.id, service);
  const reports = createNodeReports(index, table.countsConnections);
  const presenter = createPresenter(index, reports);
  const writer = createWriter();
  const feeds = createWatchFeeds(index, presenter);
  const orchestrator = createOrchestrator({ store, index, reports, writer, clock, log });
  const taskReports = createTaskReports({ store, index, writer, clock, log });
  const dispatcher = createDispatcher({
    store,
    index,
    table,
    reports,
    taskReports,
    writer,
    clock,
    log,
    clusterId,
    onPortConditions(nodeId, conditions) {
      const before = reports.portConditions(nodeId);
      reports.onPortConditions(nodeId, conditions);
      const [old, now] = [before, conditions].map((list) => new Set(list.map((one) => JSON.stringify(one))));
      const changed = [...before, ...conditions].filter((one) => {
        const text = JSON.stringify(one);
        return old?.has(text) !== now?.has(text);
      });
      const services = changed.flatMap((port) => [...index.servicesWithPort(portKey(port))]);
      feeds.onServices([...new Set(services)]);
    },
    onDrainProgress: () => orchestrator.onDrainProgress(),
  });
  const stopWatch = store.watch((changes) => {
    index.apply(changes);
    const affected = assignmentChanges(changes, index, table);
    dispatcher.onAssignmentChanges(affected);
    feeds.onCommit(changes);
    orchestrator.onCommit(changes);
  });
  return {
    clusterId,
    handlers: {
      control: controlHandlers({
        store,
        index,
        table,
        reports,
        writer,
        dispatcher,
        orchestrator,
        feeds,
        presenter,
        clock,
        log,
        version: options.version,
        clusterId,
        startedAt: clock.now(),
      }),
      serveSession: dispatcher.serveSession,
    },
    start() {
      dispatcher.start();
      orchestrator.markAllServices();
    },
    async stop() {
      orchestrator.stop();
      taskReports.stop();
      dispatcher.stop();
      feeds.stop();
      await writer.idle();
      stopWatch();
    },
  };
}
