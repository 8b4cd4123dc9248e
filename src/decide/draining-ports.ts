import type { DrainingPort, Service, Task } from '../model/cluster.ts';
import { LIMIT } from '../model/limits.ts';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { allAcknowledged, type DecisionContext } from './context.ts';
import { acceptsLocalConnections, isDraining } from './endpoint-state.ts';

/**
 * The ports that a new spec no longer has, draining: from `revision` on they accept no new connections; they are removed
 * when their last connection has ended, or stop_grace_period (ms) after `now`. A port that is declared again no longer
 * drains; beyond the limit of ports per service the oldest are dropped.
 */
export function drainingPortsAfter(before: Service, after: ServiceSpec, revision: number, now: number): DrainingPort[] {
  const isDeclared = (port: PortSpec) => after.ports.some((other) => isSamePort(port, other));
  const earlier = (before.leaving ?? []).filter(({ port }) => !isDeclared(port));
  const dropped = before.spec.ports
    // A datagram has no connection to wait for.
    .filter((port) => port.protocol !== 'udp' && !isDeclared(port))
    .map((port) => ({ port, revision, deadline: now + after.stopGracePeriod }));
  return [...earlier, ...dropped].slice(-LIMIT.ports);
}

/** Whether connections through one port continue through the other. */
function isSamePort(a: PortSpec, b: PortSpec): boolean {
  return a.protocol === b.protocol && a.published === b.published && a.target === b.target && a.mode === b.mode;
}

/** The draining ports that are not drained yet: some node may still accept new connections, or some are open. */
export function remainingDrainingPorts(
  service: Service,
  tasks: readonly Task[],
  context: DecisionContext,
): DrainingPort[] {
  const { leaving = [] } = service;
  if (leaving.length === 0) return leaving;
  const nodes = new Map(context.nodes.map((node) => [node.id, node]));
  const endpoints = tasks.filter((task) => {
    const node = nodes.get(task.nodeId ?? '');
    return acceptsLocalConnections(task, node) || isDraining(task, node);
  });
  return leaving.filter(({ revision, deadline }) => {
    if (context.now >= deadline) return false;
    if (!allAcknowledged(revision, context)) return true;
    return endpoints.some((task) => context.openConnections(task.id, revision) !== 0);
  });
}
