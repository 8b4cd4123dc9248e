import type { InfoReply, StatusReply } from '../../rpc/messages.ts';
import type { Api } from '../api.ts';
import type { Context } from '../context.ts';
import { ageText } from '../text/age.ts';
import { renderJson } from '../text/json.ts';
import { renderDetails } from '../text/table.ts';

/** `meshctl status`: this node's meshd, and the cluster when it is a manager. */
export async function status({ io, format, api }: Context): Promise<number> {
  const { control, local } = await api();
  const info = await local.info({});
  const cluster = info.roles.includes('manager') ? await clusterStatus(control) : undefined;
  io.out(format === 'json' ? renderJson([statusRow(info, cluster)]) : renderStatus(info, cluster, io.now()));
  return 0;
}

/** What the manager says of the cluster, and how many published ports are somewhere not what was declared. */
type ClusterStatus = StatusReply & { degradedPorts: number };

async function clusterStatus(control: Api['control']): Promise<ClusterStatus> {
  const [reply, { ports }] = await Promise.all([control.status({}), control.listPorts({})]);
  return { ...reply, degradedPorts: ports.filter(({ degraded }) => degraded.length > 0).length };
}

function statusRow(info: InfoReply, cluster: ClusterStatus | undefined) {
  const { nodeId, nodeName, ...rest } = info;
  return { id: nodeId, name: nodeName, ...rest, ...(cluster === undefined ? {} : { cluster }) };
}

function renderStatus(info: InfoReply, cluster: ClusterStatus | undefined, now: number): string {
  const { counters } = info;
  const where = info.manager === '' ? '' : ` ${info.manager}`;
  return renderDetails({
    node: `${info.nodeName} (${info.nodeId || 'not known to a manager yet'})`,
    roles: info.roles.join(', '),
    version: `${info.version}, up for ${ageText(now - info.startedAt)}, pid ${info.pid}`,
    manager: info.connected ? `connected to${where}` : `not connected${where}; the kernel keeps what it has`,
    assignment: `revision ${info.assignmentRevision}`,
    kernel: `${info.kernelObjects} objects`,
    'kernel work':
      counters === undefined
        ? undefined
        : `${counters.operations} operations (${counters.failed} failed), ${counters.messages} messages in ${counters.sends} sends, ` +
          `${counters.firewallRuns} firewall runs, ${counters.observes} observations, ${counters.repairs} repairs`,
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
