import type { IpAddress, Protocol } from '../../model/address.ts';
import type { AssignedPort, Assignment } from '../../model/assignment.ts';
import { canonicalAddress, isLoopback } from '../../model/canonical-address.ts';
import { type Condition, renderCondition } from '../../model/condition.ts';

/** The state of this node as the health endpoint reports it. */
export interface NodeHealth {
  nodeId: string;
  /** Ports that are published on it; undefined before the first assignment. */
  ports: readonly AssignedPort[] | undefined;
  /** Whether this node may publish the port: those of sshd are withheld. */
  publishes(port: AssignedPort): boolean;
  /** Why its kernel does not match the assignment; empty when it does. */
  problems: readonly string[];
  /** Underlay addresses of the cluster's nodes, in canonical form. */
  nodeAddresses: readonly IpAddress[];
}

/** `revision` is the one that the kernel holds, 0 before the first; `conditions` those about the kernel. */
export function nodeHealth(
  assignment: Assignment | undefined,
  publishes: NodeHealth['publishes'],
  revision: number,
  conditions: readonly Condition[],
): NodeHealth {
  const notReady = revision === 0 ? ['the kernel does not hold an assignment yet'] : [];
  const problems = [...notReady, ...conditions.map(renderCondition)];
  const nodeAddresses =
    assignment === undefined ? [] : [assignment.self, ...assignment.peers].map(({ underlay }) => underlay);
  return { nodeId: assignment?.self.nodeId ?? '', ports: assignment?.ports, publishes, problems, nodeAddresses };
}

/**
 * Whether a caller gets more than a status: names of services and errors of the kernel are for this machine and the nodes
 * of the cluster, not for anyone who reaches the port.
 */
export function mayReadDetails(caller: string | undefined, nodeAddresses: readonly IpAddress[]): boolean {
  const address = canonicalAddress(caller ?? '');
  return address !== undefined && (isLoopback(address) || nodeAddresses.includes(address));
}

export interface HealthResponse {
  status: 200 | 404 | 503;
  /** For callers that may read details. */
  details: object;
}

/** What every caller gets, beside the status code. */
export const STATUS_WORDS: Readonly<Record<HealthResponse['status'], string>> = {
  200: 'ok',
  404: 'unknown',
  503: 'unavailable',
};

/** Without a protocol, the first of these that has the port. */
const PROTOCOL_ORDER: readonly Protocol[] = ['tcp', 'udp', 'sctp'];

/**
 * Answers a health check of an external load balancer. `/ports/8080/tcp`, `/ports/8080`: whether a new connection to
 * this node's port would reach a task under the port's policy. `/healthz`: whether the kernel holds the assignment.
 */
export function handleHealthRequest(path: string, node: NodeHealth): HealthResponse {
  if (path === '/healthz') {
    const ok = node.problems.length === 0;
    return { status: ok ? 200 : 503, details: ok ? { status: 'ok' } : { status: 'failing', problems: node.problems } };
  }
  const [, number, protocol] = /^\/ports\/(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(path) ?? [];
  if (number === undefined)
    return { status: 404, details: { error: 'use /ports/PORT, /ports/PORT/PROTOCOL or /healthz' } };
  if (node.ports === undefined) return { status: 503, details: { error: 'this node has no assignment yet' } };
  const found = node.ports
    .filter((port) => port.published === Number(number) && (protocol === undefined || port.protocol === protocol))
    .sort((a, b) => PROTOCOL_ORDER.indexOf(a.protocol) - PROTOCOL_ORDER.indexOf(b.protocol))[0];
  if (found === undefined) return { status: 404, details: { error: 'no service publishes this port on this node' } };
  return portResponse(found, node);
}

function portResponse(port: AssignedPort, { nodeId, publishes }: NodeHealth): HealthResponse {
  const { published, protocol, serviceName: service, policy = 'cluster', mode } = port;
  const active = port.endpoints.filter(({ weight }) => weight > 0);
  const local = active.filter((endpoint) => endpoint.nodeId === nodeId).length;
  const isServed = publishes(port) && (policy === 'local' ? local : active.length) > 0;
  return { status: isServed ? 200 : 503, details: { port: published, protocol, service, mode, policy, local } };
}
