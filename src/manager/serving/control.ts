import type { Clock } from '../../base/clock.ts';
import { MeshError } from '../../base/errors.ts';
import { applyUpdate } from '../../decide/update.ts';
import { renderAdmissionWarning } from '../../model/admission-warning.ts';
import type { ServiceSpec } from '../../model/spec.ts';
import type { Control } from '../../rpc/gen/mesh_pb.js';
import type { AppliedService, ApplyReply } from '../../rpc/messages.ts';
import type { Handlers } from '../../rpc/service.ts';
import type { AdmittedService, Leader } from '../leading/leader.ts';
import type { ClusterIndex } from './cluster-index.ts';
import type { Dispatcher } from './dispatcher.ts';
import { examineNodes } from './doctor.ts';
import { findNode, findService } from './find.ts';
import type { AskNodes } from './node-answers.ts';
import type { PortTable } from './port-table.ts';
import type { Presenter } from './presenter.ts';
import { byName, type ManagerInfo, readHandlers } from './reads.ts';
import { fullAssignment } from './session-feed.ts';
import { traceConnection } from './trace.ts';
import type { WatchFeeds } from './watch-feed.ts';

export interface ControlOptions {
  index: ClusterIndex;
  table: PortTable;
  leader: Leader;
  dispatcher: Dispatcher;
  feeds: WatchFeeds;
  presenter: Presenter;
  clock: Clock;
  info: ManagerInfo;
}

/** What people can request of a manager. */
export function controlHandlers(options: ControlOptions): Handlers<typeof Control> {
  const { index, table, leader, dispatcher, feeds, presenter, clock, info } = options;

  const askNodes: AskNodes = (nodes, kind, argument) =>
    Promise.all(nodes.map((node) => dispatcher.request(node, kind, argument)));

  async function apply(specs: () => readonly ServiceSpec[], dryRun: boolean): Promise<ApplyReply> {
    const services = await leader.applyServices(specs, dryRun);
    return { services: services.map(applied), revision: index.revision };
  }

  return {
    ...readHandlers(index, presenter, info),

    apply: ({ services, dryRun }) => apply(() => services, dryRun),

    scale: ({ targets }) =>
      apply(() => targets.map(({ service, replicas }) => scaled(findService(index, service).spec, replicas)), false),

    updateService: ({ service, ...update }) =>
      apply(() => [applyUpdate(findService(index, service).spec, update)], false),

    async removeServices({ services }) {
      const select = () => [...new Set(services.map((each) => findService(index, each)))];
      const removed = await leader.removeServices(select);
      return { ids: removed.map(({ id }) => id), names: removed.map(({ name }) => name), revision: index.revision };
    },

    async updateNode({ node, ...change }) {
      return presenter.node(await leader.updateNode(() => findNode(index, node), change));
    },

    async removeNode({ node, force }) {
      const { id, name } = await leader.removeNode(() => findNode(index, node), force);
      dispatcher.disconnect(id, `node ${name} was removed from the cluster`);
      return { id };
    },

    watch: (request, { signal }) => feeds.watch(request, signal),

    async plan({ services: specs }) {
      const plan = specs.length === 0 ? undefined : await leader.planServices(specs);
      const nodes = [...index.nodes()].sort(byName);
      const answers = nodes.map((node) =>
        dispatcher.dryRun(node, plan?.assignmentOf(node) ?? fullAssignment(node, index, table)),
      );
      return { nodes: await Promise.all(answers), services: (plan?.admitted ?? []).map(applied) };
    },

    async ask({ nodes, kind, argument }) {
      const ready = () => [...index.nodes()].filter(({ state }) => state === 'ready').sort(byName);
      const asked = nodes.length === 0 ? ready() : nodes.map((each) => findNode(index, each));
      return { nodes: await askNodes(asked, kind, argument) };
    },

    trace: (request) => traceConnection(request, index, presenter, askNodes),

    async doctor({ nodes }) {
      const all = [...index.nodes()].sort(byName);
      const selected = nodes.length === 0 ? all : [...new Set(nodes.map((each) => findNode(index, each)))];
      return examineNodes(selected, all, askNodes, clock, info.version);
    },
  };
}

function applied({ warnings, ...service }: AdmittedService): AppliedService {
  return { ...service, warnings: warnings.map(renderAdmissionWarning) };
}

function scaled(spec: ServiceSpec, replicas: number): ServiceSpec {
  if (spec.mode === 'replicated') return { ...spec, replicas };
  throw new MeshError(
    'invalid',
    `service ${spec.name} is global, it has one task on every node: only replicated services can be scaled`,
  );
}
