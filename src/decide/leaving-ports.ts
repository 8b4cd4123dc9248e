import type { LeavingPort, Service, Task } from '../model/cluster.ts';
import { LIMIT } from '../model/limits.ts';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { allAcknowledged, type Context } from './context.ts';
import { isDraining, takesConnections } from './serve.ts';

/**
 * What stays of the ports that a new spec no longer has: with the commit of `revision` they take no new connections,
 * and go when their last connection has ended, or stop_grace_period (ms) after `now`. A port that is declared again
 * is no longer leaving; beyond as many as a service may have, the oldest are cut.
 */
export function givenUp(before: Service, after: ServiceSpec, revision: number, now: number): LeavingPort[] {
  const declared = (port: PortSpec) => after.ports.some((other) => sameWay(port, other));
  const earlier = (before.leaving ?? []).filter(({ port }) => !declared(port));
  const gone = before.spec.ports
    // A datagram has no connection to wait for.
    .filter((port) => port.protocol !== 'udp' && !declared(port))
    .map((port) => ({ port, revision, deadline: now + after.stopGracePeriod }));
  return [...earlier, ...gone].slice(-LIMIT.ports);
}

/** Whether connections through one port would go on through the other. */
function sameWay(a: PortSpec, b: PortSpec): boolean {
  return a.protocol === b.protocol && a.published === b.published && a.target === b.target && a.mode === b.mode;
}

/** The leaving ports that are not over yet: some node may still let new connections in, or open ones are left. */
export function stillLeaving(service: Service, tasks: readonly Task[], context: Context): LeavingPort[] {
  const { leaving = [] } = service;
  if (leaving.length === 0) return leaving;
  const nodes = new Map(context.nodes.map((node) => [node.id, node]));
  const behind = tasks.filter((task) => {
    const node = nodes.get(task.nodeId ?? '');
    return takesConnections(task, node) || isDraining(task, node);
  });
  return leaving.filter(({ revision, deadline }) => {
    if (context.now >= deadline) return false;
    if (!allAcknowledged(revision, context)) return true;
    return behind.some((task) => context.openConnections(task.id, revision) !== 0);
  });
}
