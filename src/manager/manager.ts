import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { PortCondition } from '../model/cluster.ts';
import { sameValue } from '../model/equality.ts';
import { portKey } from '../model/spec.ts';
import type { Control } from '../rpc/gen/mesh_pb.js';
import type { SessionHandler } from '../rpc/grpc-server.ts';
import type { Handlers } from '../rpc/service.ts';
import type { Store } from '../store/store.ts';
import { bootstrap, type ClusterOptions } from './leading/bootstrap.ts';
import { createLeader } from './leading/create-leader.ts';
import { assignmentChanges } from './serving/assignment-changes.ts';
import { createClusterIndex } from './serving/cluster-index.ts';
import { controlHandlers } from './serving/control.ts';
import { createDispatcher } from './serving/dispatcher.ts';
import { createNodeReports } from './serving/node-reports.ts';
import { createPortTable } from './serving/port-table.ts';
import { createPresenter } from './serving/presenter.ts';
import { createPublications } from './serving/publications.ts';
import { createWatchFeeds } from './serving/watch-feed.ts';

/*
 * Requests (serving/control.ts), reports of agents (serving/dispatcher.ts) and due times lead to decisions (leading/); each
 * decision is one transaction of the store. Each commit goes from here, in order, into the index, and from there to nodes
 * (serving/session-feed.ts), watchers and the next decisions.
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
  /** Starts to decide; to be called once the handlers are served. */
  start(): void;
  /** Ends sessions and watches and waits for what is being written; the store stays open. */
  stop(): Promise<void>;
}

/** Errors as in bootstrap.ts. The store stays the caller's, but no one else may write to it. */
export async function createManager(options: ManagerOptions): Promise<Manager> {
  const { store, clock, log, version } = options;
  const clusterId = await bootstrap(store, options, clock.now());
  const index = createClusterIndex(store);
  const table = createPortTable(index);
  for (const service of index.services()) table.refresh(service.id, service);
  const reports = createNodeReports(index, table.countsConnections);
  const publications = createPublications(clock, (ids) =>
    feeds.onServices([...ids].flatMap((id) => index.service(id) ?? [])),
  );
  const presenter = createPresenter(index, reports, publications);
  const feeds = createWatchFeeds(index, presenter);
  const reportNode = (nodeId: string) => {
    const node = index.node(nodeId);
    if (node !== undefined) feeds.onNodes([node]);
  };
  const leader = createLeader({ store, view: index, observations: reports, offers: table.offers, clock, log });
  const dispatcher = createDispatcher({
    index,
    table,
    reports,
    leader,
    clock,
    log,
    clusterId,
    onSession(nodeId) {
      reports.onSession(nodeId);
      reportNode(nodeId);
    },
    onAck(nodeId, revision, failures) {
      const isFirst = reports.acknowledged(nodeId) === 0;
      reports.onAck(nodeId, revision, failures);
      publications.onAck(nodeId, revision);
      if (isFirst) reportNode(nodeId);
    },
    onConditions(nodeId, conditions) {
      const before = reports.conditions(nodeId);
      reports.onConditions(nodeId, conditions);
      if (!sameValue(before, reports.conditions(nodeId))) reportNode(nodeId);
    },
    onPortConditions(nodeId, conditions) {
      const before = reports.portConditions(nodeId);
      reports.onPortConditions(nodeId, conditions);
      const services = changedPorts(before, conditions).flatMap((port) => [...index.servicesWithPort(portKey(port))]);
      feeds.onServices([...new Set(services)]);
    },
  });
  const info = { version, clusterId, startedAt: clock.now() };
  const stopWatch = store.watch((changes) => {
    index.apply(changes);
    const effects = assignmentChanges(changes, index, table);
    publications.onCommit(changes, index.revision, effects.published, () =>
      [...index.nodes()].filter(({ state }) => state === 'ready').map(({ id }) => id),
    );
    dispatcher.onAssignmentChanges(effects);
    feeds.onCommit(changes);
    leader.onCommit(changes);
  });
  return {
    clusterId,
    handlers: {
      control: controlHandlers({ index, table, leader, dispatcher, feeds, presenter, clock, info }),
      serveSession: dispatcher.serveSession,
    },
    start() {
      dispatcher.start();
      leader.start();
    },
    async stop() {
      const stopping = leader.stop();
      dispatcher.stop();
      feeds.stop();
      publications.stop();
      await stopping;
      stopWatch();
    },
  };
}

/** Conditions that are in one of two reports only. */
function changedPorts(before: readonly PortCondition[], after: readonly PortCondition[]): PortCondition[] {
  const keys = (list: readonly PortCondition[]) => new Set(list.map((one) => JSON.stringify(one)));
  const [old, current] = [keys(before), keys(after)];
  return [...before, ...after].filter((one) => old.has(JSON.stringify(one)) !== current.has(JSON.stringify(one)));
}
