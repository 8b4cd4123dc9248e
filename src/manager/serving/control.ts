import type { Clock } from '../../base/clock.ts';
import { MeshError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { hostListeners } from '../../decide/port-conflicts.ts';
import { applyUpdate } from '../../decide/update.ts';
import { isTerminal, type Node, type Service } from '../../model/cluster.ts';
import { LIMIT } from '../../model/limits.ts';
import type { ServiceSpec } from '../../model/spec.ts';
import type { Control } from '../../rpc/gen/mesh_pb.js';
import type { ApplyReply } from '../../rpc/messages.ts';
import type { Handlers } from '../../rpc/service.ts';
import type { Store } from '../../store/store.ts';
import { admitSpecs } from '../leading/admission.ts';
import { dryRun } from '../leading/dry-run.ts';
import type { Orchestrator } from '../leading/orchestrator.ts';
import { put, remove, type Writer } from '../leading/writer.ts';
import type { ClusterIndex } from './cluster-index.ts';
import type { Dispatcher } from './dispatcher.ts';
import { findNode, findService } from './find.ts';
import type { NodeReports } from './node-reports.ts';
import type { PortTable } from './port-table.ts';
import { desiredTaskCount, type Presenter } from './presenter.ts';
import { fullAssignment } from './session-feed.ts';
import type { WatchFeeds } from './watch-feed.ts';

export interface ControlOptions {
  store: Store;
  index: ClusterIndex;
  table: PortTable;
  reports: NodeReports;
  writer: Writer;
  dispatcher: Dispatcher;
  orchestrator: Orchestrator;
  feeds: WatchFeeds;
  presenter: Presenter;
  clock: Clock;
  log: Log;
  version: string;
  clusterId: string;
  startedAt: number;
}

/** What meshctl can ask of a manager. */
export function controlHandlers(options: ControlOptions): Handlers<typeof Control> {
  const { store, index, table, reports, writer, dispatcher, orchestrator, feeds, presenter, clock, log } = options;

  const listeners = () => hostListeners(index.nodes(), reports.listeners);

  /** Answered when its consequences are decided, too: who lists tasks next sees them, and nodes hear of it first. */
  async function runUntilDecided<T>(work: () => Promise<T>): Promise<T> {
    const reply = await writer.run(work);
    await orchestrator.whenDecided();
    return reply;
  }

  /** All of them or none, and nobody else decides in between: two requests never both get a port. */
  function apply(specs: () => ServiceSpec[], dryRun: boolean): Promise<ApplyReply> {
    return runUntilDecided(async () => {
      const { applied, writes } = admitSpecs(specs(), index, clock.now(), listeners());
      if (!dryRun && writes.length > 0) {
        await store.transact(writes);
        for (const { name, action, changes } of applied)
          if (action !== 'unchanged') log.info({ service: name, changes }, action);
      }
      return { services: applied, revision: store.revision() };
    });
  }

  return {
    apply: ({ services, dryRun }) => apply(() => services, dryRun),

    async scale({ targets }) {
      return apply(
        () =>
          targets.map(({ service: wanted, replicas }) => {
            const { spec } = findService(index, wanted);
            if (spec.mode === 'replicated') return { ...spec, replicas };
            throw new MeshError(
              'invalid',
              `service ${spec.name} is global, it has one task on every node: only replicated services have a scale`,
            );
          }),
        false,
      );
    },

    updateService: ({ service: wanted, ...update }) =>
      apply(() => [applyUpdate(findService(index, wanted).spec, update)], false),

    removeServices: ({ services }) =>
      runUntilDecided(async () => {
        const found = [...new Set(services.map((each) => findService(index, each)))];
        const now = clock.now();
        // They stay, out of sight, until their tasks have left (decide/orchestrate.ts).
        const writes = found.map((service) => put<Service>('services', { ...service, removed: true, updatedAt: now }));
        if (writes.length > 0) await store.transact(writes);
        for (const { name } of found) log.info({ service: name }, 'removed');
        return { ids: found.map(({ id }) => id), names: found.map(({ name }) => name), revision: store.revision() };
      }),

    async listServices() {
      return { services: activeServices(index).sort(byName).map(presenter.service) };
    },

    async listPorts() {
      const services = activeServices(index).sort(byName);
      return {
        ports: services.flatMap((service) =>
          service.spec.ports.map((port) => ({
            serviceId: service.id,
            serviceName: service.name,
            port,
            degraded: presenter.degraded(port),
            tasks: presenter.assignedHostPorts(service, port),
          })),
        ),
      };
    },

    async ask({ nodes: wanted, kind, argument }) {
      const all = [...index.nodes()].filter(({ state }) => state === 'ready').sort(byName);
      const asked = wanted.length === 0 ? all : wanted.map((each) => findNode(index, each));
      return { nodes: await Promise.all(asked.map((node) => dispatcher.request(node, kind, argument))) };
    },

    async listTasks({ service, node, includeEnded }) {
      const ofService = service === undefined ? undefined : findService(index, service);
      const onNode = node === undefined ? undefined : findNode(index, node);
      const from = ofService
        ? index.tasksOfService(ofService.id)
        : onNode
          ? index.tasksOnNode(onNode.id)
          : [...index.tasks()];
      const tasks = from
        .filter((task) => onNode === undefined || task.nodeId === onNode.id)
        .filter((task) => includeEnded || !isTerminal(task.status.state))
        .sort(
          (a, b) =>
            compare(a.serviceName, b.serviceName) ||
            a.slot - b.slot ||
            b.createdAt - a.createdAt ||
            compare(a.id, b.id),
        );
      return { tasks: tasks.map(presenter.task) };
    },

    async listNodes() {
      return { nodes: [...index.nodes()].sort(byName).map(presenter.node) };
    },

    updateNode: (request) =>
      runUntilDecided(async () => {
        const node = findNode(index, request.node);
        const labels = { ...node.labels, ...request.setLabels };
        for (const key of request.removeLabels) {
          if (labels[key] === undefined) throw new MeshError('not-found', `node ${node.name} has no label ${key}`);
          delete labels[key];
        }
        if (Object.keys(labels).length > LIMIT.entries)
          throw new MeshError('invalid', `node ${node.name} would have more than ${LIMIT.entries} labels`);
        const { availability = node.availability } = request;
        await store.transact([put<Node>('nodes', { ...node, labels, availability, updatedAt: clock.now() })]);
        log.info({ node: node.name, labels, availability }, 'node updated');
        return presenter.node(index.node(node.id)!);
      }),

    removeNode: ({ node: wanted, force }) =>
      runUntilDecided(async () => {
        const node = findNode(index, wanted);
        if (node.state !== 'down' && !force) {
          throw new MeshError(
            'conflict',
            `node ${node.name} is up: stop its meshd first, or remove it with --force (a running agent will join again as a new node)`,
          );
        }
        await store.transact([remove('nodes', node)]);
        dispatcher.disconnect(node.id, `node ${node.name} was removed from the cluster`);
        log.warn({ node: node.name, force }, 'node removed');
        return { id: node.id };
      }),

    watch: (request, { signal }) => feeds.watch(request, signal),

    async plan({ services: specs }) {
      // Everything is looked at in one moment; only the answers of the nodes take time.
      const prepared = await writer.run(async () => {
        const { applied, services: changed } = admitSpecs(specs, index, clock.now(), listeners());
        const known = [...index.nodes()].sort(byName);
        const of = specs.length === 0 ? undefined : dryRun(changed, index, reports, table, clock.now());
        return {
          applied,
          nodes: known.map((node) => ({ node, wish: of?.(node) ?? fullAssignment(node, index, table) })),
        };
      });
      const nodes = await Promise.all(prepared.nodes.map(({ node, wish }) => dispatcher.dryRun(node, wish)));
      return { nodes, services: prepared.applied };
    },

    async status() {
      const nodes = [...index.nodes()];
      const { services, running } = index.totals();
      return {
        clusterId: options.clusterId,
        revision: store.revision(),
        version: options.version,
        startedAt: options.startedAt,
        services,
        tasksRunning: running,
        tasksDesired: activeServices(index).reduce((sum, service) => sum + desiredTaskCount(service, index), 0),
        nodesReady: nodes.filter(({ state }) => state === 'ready').length,
        nodes: nodes.length,
      };
    },
  };
}

function activeServices(index: ClusterIndex): Service[] {
  return [...index.services()].filter((service) => index.service(service.id) === service);
}

function byName(a: { name: string }, b: { name: string }): number {
  return compare(a.name, b.name);
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
