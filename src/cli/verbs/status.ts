import type { InfoReply, StatusReply } from '../../rpc/messages.ts';
import type { Api } from '../api.ts';
import type { Context } from '../context.ts';
import { ageText } from '../text/age.ts';
import { renderJson } from '../text/json.ts';
import { renderDetails } from '../text/table.ts';

/** `meshctl status`: the state of this node and, on a manager, of the cluster. */
export async function status({ io, format, api }: Context): Promise<number> {
  const { control, local } = await api();
  const info = await local.info({});
  const cluster = info.roles.includes('manager') ? await clusterStatus(control) : undefined;
  io.out(format === 'json' ? renderJson([statusRow(info, cluster)]) : renderStatus(info, cluster, io.now()));
  return 0;
}

/** The manager's status, and the number of published ports that are degraded on some node. */
type ClusterStatus = StatusReply & { degradedPorts: number };

async function clusterStatus(control: Api['control']): Promise<ClusterStatus> {
  const [reply, { ports }] = await Promise.all([control.status({}), control.listPorts({})]);
  return { ...reply, degradedPorts: ports.filter(({ degraded }) => degraded.length > 0).length };
}

function statusRow(info: InfoReply, cluster: ClusterStatus | undefined) {
  const { roles, version, startedAt, pid, manager, connected, assignmentRevision, kernelObjects, conditions } = info;
  return {
    id: info.nodeId,
    name: info.nodeName,
    roles,
    version,
    startedAt,
    pid,
    manager,
    connected,
    assignmentRevision,
    kernelObjects,
    ...(info.counters === undefined ? {} : { counters: countersRow(info.counters) }),
    conditions,
    ...(cluster === undefined ? {} : { cluster: clusterRow(cluster) }),
  };
}

function countersRow(counters: NonNullable<InfoReply['counters']>) {
  const { sends, messages, bytes, firewallRuns, operations, failed, observes, repairs } = counters;
  return { sends, messages, bytes, firewallRuns, operations, failed, observes, repairs };
}

function clusterRow(cluster: ClusterStatus) {
  const { clusterId, revision, version, startedAt, services, nodes, degradedPorts } = cluster;
  const { tasksRunning, tasksDesired, nodesReady } = cluster;
  return {
    clusterId,
    revision,
    version,
    startedAt,
    services,
    tasksRunning,
    tasksDesired,
    nodesReady,
    nodes,
    degradedPorts,
  };
}

function renderStatus(info: InfoReply, cluster: ClusterStatus | undefined, now: number): string {
  const { counters } = info;
  const where = info.manager === '' ? '' : ` ${info.manager}`;
  return renderDetails({
    node: `${info.nodeName} (${info.nodeId || 'not registered with a manager yet'})`,
    roles: info.roles.join(', '),
    version: `${info.version}, up for ${ageText(now - info.startedAt)}, pid ${info.pid}`,
    manager: info.connected ? `connected to${where}` : `not connected${where}; kernel state is kept`,
    assignment: `revision ${info.assignmentRevision}`,
    kernel: `${info.kernelObjects} objects`,
    'kernel work':
      counters === undefined
        ? undefined
        : `${counters.operations} operations (${counters.failed} failed), ${counters.messages} messages in ${counters.sends} sends, ` +
          `${counters.firewallRuns} firewall runs, ${counters.observes} scans, ${counters.repairs} repairs`,
    cluster:
      cluster === undefined
        ? undefined
        : `${cluster.clusterId}, revision ${cluster.revision}: ${cluster.services} services, ` +
          `${cluster.tasksRunning}/${cluster.tasksDesired} tasks, ${cluster.nodesReady}/${cluster.nodes} nodes ready`,
    'published ports': cluster?.degradedPorts
      ? `${cluster.degradedPorts} degraded; see \`meshctl port ls\``
      : undefined,
    conditions: info.conditions.length === 0 ? undefined : info.conditions.join('; '),
  });
}
