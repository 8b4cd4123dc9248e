import type { Protocol } from '../../model/address.ts';
import type { AssignedPort, Assignment } from '../../model/assignment.ts';

/** What this node is now, for those who ask from outside. */
export interface NodeHealth {
  nodeId: string;
  /** Published ports assigned to it; undefined before the first assignment. */
  ports: readonly AssignedPort[] | undefined;
  /** Whether the node lets the mesh have the port: sshd's it keeps. */
  publishes(port: AssignedPort): boolean;
  /** Why its kernel does not hold its assignment; empty when it does. */
  problems: readonly string[];
}

/** `revision` is what the kernel holds, 0 before the first; `trouble` what is wrong with the kernel. */
export function nodeHealth(
  assigned: Assignment | undefined,
  publishes: NodeHealth['publishes'],
  revision: number,
  kernelProblem: string | undefined,
): NodeHealth {
  const notReady = revision === 0 ? ['the kernel does not hold an assignment yet'] : [];
  const problems = [...notReady, ...(kernelProblem === undefined ? [] : [kernelProblem])];
  return { nodeId: assigned?.self.nodeId ?? '', ports: assigned?.ports, publishes, problems };
}

export interface HttpResponse {
  status: 200 | 404 | 503;
  body: object;
}

/** Without a protocol the first of these that has the number is meant. */
const PROTOCOL_ORDER: readonly Protocol[] = ['tcp', 'udp', 'sctp'];

/**
 * What a balancer in front of the nodes gets. `/ports/8080/tcp`, `/ports/8080`: whether a new connection to this node's
 * port would reach a task, as the port's policy has it. `/healthz`: whether the kernel holds what was assigned.
 */
export function handleHealthRequest(path: string, node: NodeHealth): HttpResponse {
  if (path === '/healthz') {
    const ok = node.problems.length === 0;
    return { status: ok ? 200 : 503, body: ok ? { status: 'ok' } : { status: 'failing', problems: node.problems } };
  }
  const [, number, protocol] = /^\/ports\/(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(path) ?? [];
  if (number === undefined)
    return { status: 404, body: { error: 'ask /ports/PORT, /ports/PORT/PROTOCOL or /healthz' } };
  if (node.ports === undefined) return { status: 503, body: { error: 'this node has no assignment yet' } };
  const found = node.ports
    .filter((port) => port.published === Number(number) && (protocol === undefined || port.protocol === protocol))
    .sort((a, b) => PROTOCOL_ORDER.indexOf(a.protocol) - PROTOCOL_ORDER.indexOf(b.protocol))[0];
  if (found === undefined) return { status: 404, body: { error: 'no service publishes this port on this node' } };
  return portResponse(found, node);
}

function portResponse(port: AssignedPort, { nodeId, publishes: offers }: NodeHealth): HttpResponse {
  const { published, protocol, serviceName: service, policy = 'cluster', mode } = port;
  const active = port.endpoints.filter(({ weight }) => weight > 0);
  const local = active.filter((endpoint) => endpoint.nodeId === nodeId).length;
  const isServed = offers(port) && (policy === 'local' ? local : active.length) > 0;
  return { status: isServed ? 200 : 503, body: { port: published, protocol, service, mode, policy, local } };
}
