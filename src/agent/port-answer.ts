import type { Protocol } from '../model/address.ts';
import type { AssignedPort, Assignment } from '../model/assignment.ts';

/** What this node is now, for those who ask from outside. */
export interface NodeView {
  nodeId: string;
  /** Published ports assigned to it; undefined before the first assignment. */
  ports: readonly AssignedPort[] | undefined;
  /** Whether the node lets the mesh have the port: sshd's it keeps. */
  offers(port: AssignedPort): boolean;
  /** Why its kernel does not hold its assignment; empty when it does. */
  problems: readonly string[];
}

/** `revision` is what the kernel holds, 0 before the first; `trouble` what is wrong with the kernel. */
export function nodeView(
  assigned: Assignment | undefined,
  offers: NodeView['offers'],
  revision: number,
  trouble: string | undefined,
): NodeView {
  const early = revision === 0 ? ['the kernel does not hold an assignment yet'] : [];
  const problems = [...early, ...(trouble === undefined ? [] : [trouble])];
  return { nodeId: assigned?.self.nodeId ?? '', ports: assigned?.ports, offers, problems };
}

export interface HttpAnswer {
  status: 200 | 404 | 503;
  body: object;
}

/** Without a protocol the first of these that has the number is meant. */
const ORDER: readonly Protocol[] = ['tcp', 'udp', 'sctp'];

/**
 * What a balancer in front of the nodes gets. `/ports/8080/tcp`, `/ports/8080`: whether a new connection to this node's
 * port would reach a task, as the port's policy has it. `/healthz`: whether the kernel holds what was assigned.
 */
export function answerTo(path: string, node: NodeView): HttpAnswer {
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
    .sort((a, b) => ORDER.indexOf(a.protocol) - ORDER.indexOf(b.protocol))[0];
  if (found === undefined) return { status: 404, body: { error: 'no service publishes this port on this node' } };
  return portAnswer(found, node);
}

function portAnswer(port: AssignedPort, { nodeId, offers }: NodeView): HttpAnswer {
  const { published, protocol, serviceName: service, policy = 'cluster', mode } = port;
  const open = port.endpoints.filter(({ weight }) => weight > 0);
  const local = open.filter((endpoint) => endpoint.nodeId === nodeId).length;
  const answers = offers(port) && (policy === 'local' ? local : open.length) > 0;
  return { status: answers ? 200 : 503, body: { port: published, protocol, service, mode, policy, local } };
}
