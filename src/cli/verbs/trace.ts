import ipaddr from 'ipaddr.js';
import { MeshError } from '../../base/errors.ts';
import { familyOf, type IpAddress, type Protocol } from '../../model/address.ts';
import { stateFromJson } from '../../model/state-json.ts';
import type { Node, NodeAnswer, Task } from '../../rpc/gen/mesh.ts';
import type { Hop, NodeState } from '../../trace/packet.ts';
import { type Path, type Trace, trace } from '../../trace/trace.ts';
import { type Context, UsageError } from '../context.ts';
import { resolveObject } from '../resolve-object.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';
import { renderTable } from '../text/table.ts';

/** The destination as given on the command line. */
interface Target {
  node: string;
  protocol: Protocol;
  port: number;
}

/** `meshctl trace CLIENT NODE:PORT`: exit status 1 if the packet would not be answered. */
export async function traceVerb(context: Context, from: string, to: string): Promise<number> {
  const { io, format } = context;
  const target = parseTarget(to);
  const { control } = await context.api();
  const [{ nodes }, { tasks }] = await Promise.all([control.listNodes({}), control.listTasks({ includeEnded: false })]);
  const argument = JSON.stringify({ protocol: target.protocol, published: target.port });
  const { nodes: answers } = await control.ask({
    nodes: involvedNodes(target, nodes, tasks),
    kind: 'kernel',
    argument,
  });
  const states: NodeState[] = [];
  for (const answer of answers) {
    if (answer.error === '') states.push(parseNodeState(answer));
    else io.err(lines([`meshctl: ${answer.nodeName} did not answer: ${answer.error}`]));
  }
  const client = clientAddress(from, nodes);
  const resolved = resolveDestination(target.node, client, nodes, states);
  const destination = from === 'localhost' ? loopback(client) : resolved.destination;
  const { protocol, port } = target;
  const result = trace({ client: client ?? destination, node: resolved.node, destination, protocol, port }, states);
  if (format === 'json') io.out(renderJson([traceRow(result, tasks)]));
  else
    io.out(renderTrace(result, states, tasks, `${client ?? destination} to ${destination}, port ${port}/${protocol}`));
  return result.outcome === 'answered' ? 0 : 1;
}

/** The node the packet enters and those of the tasks of the port; empty, which means all nodes, for an unknown address. */
function involvedNodes(
  { node: word, protocol, port }: Target,
  nodes: readonly Node[],
  tasks: readonly Task[],
): string[] {
  const resolved = resolveObject('node', nodes, word);
  const entry = nodes.find(({ underlay }) => underlay === word) ?? (resolved.ok ? resolved.value : undefined);
  if (entry === undefined) return [];
  const servingTasks = tasks.filter(({ ports }) =>
    ports.some((one) => one.published === port && one.protocol === protocol),
  );
  const readyNodeIds = new Set(nodes.filter(({ state }) => state === 'ready').map(({ id }) => id));
  const taskNodeIds = servingTasks.flatMap(({ nodeId }) =>
    nodeId !== undefined && readyNodeIds.has(nodeId) ? [nodeId] : [],
  );
  return [...new Set([entry.id, ...taskNodeIds])];
}

/** `node1:8080`, `192.0.2.1:53/udp`, `[2001:db8::1]:8080`. */
export function parseTarget(word: string): Target {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})(?:\/(tcp|udp|sctp))?$/.exec(word);
  const port = Number(match?.[3]);
  if (match === null || port < 1 || port > 65_535) {
    throw new UsageError(`${word} is not NODE:PORT, such as node1:8080, 192.0.2.1:53/udp or [2001:db8::1]:8080`);
  }
  return { node: match[1] ?? match[2]!, port, protocol: (match[4] ?? 'tcp') as Protocol };
}

/** The client's address: the given one, that of a node, or undefined for a program on the node itself. */
function clientAddress(word: string, nodes: readonly Node[]): IpAddress | undefined {
  if (word === 'localhost') return undefined;
  if (ipaddr.isValid(word) && (word.includes(':') || ipaddr.IPv4.isValidFourPartDecimal(word))) {
    const address = ipaddr.parse(word);
    return address instanceof ipaddr.IPv6 ? address.toRFC5952String() : address.toString();
  }
  const node = resolveObject('node', nodes, word);
  if (!node.ok) throw node.error;
  return node.value.underlay;
}

const loopback = (client: IpAddress | undefined): IpAddress =>
  client !== undefined && familyOf(client) === 'inet6' ? '::1' : '127.0.0.1';

/** The node with this name, id or address, and its address of the client's family. */
function resolveDestination(
  word: string,
  client: IpAddress | undefined,
  nodes: readonly Node[],
  states: readonly NodeState[],
): { node: NodeState; destination: IpAddress } {
  if (ipaddr.isValid(word) && word.includes('.') === ipaddr.IPv4.isValid(word)) {
    const canonical = ipaddr.parse(word).toString();
    const owner = states.find(({ addresses }) => addresses.includes(word) || addresses.includes(canonical));
    if (owner !== undefined) return { node: owner, destination: word };
    throw new MeshError('not-found', `no node has the address ${word}; see meshctl node ls`);
  }
  const resolved = resolveObject('node', nodes, word);
  if (!resolved.ok) throw resolved.error;
  const node = states.find(({ nodeId }) => nodeId === resolved.value.id);
  if (node === undefined) {
    throw new MeshError('unavailable', `${resolved.value.name} did not report its kernel objects; see meshctl node ls`);
  }
  const { underlay } = resolved.value;
  if (client === undefined || familyOf(client) === familyOf(underlay)) return { node, destination: underlay };
  const destination = node.addresses.find((one) => familyOf(one) === familyOf(client) && isGlobal(one));
  if (destination !== undefined) return { node, destination };
  throw new MeshError('not-found', `${node.name} has no ${familyOf(client)} address that ${client} can reach`);
}

function isGlobal(address: IpAddress): boolean {
  const range = ipaddr.parse(address).range();
  return range !== 'loopback' && range !== 'linkLocal';
}

function parseNodeState({ nodeId, nodeName, body }: NodeAnswer): NodeState {
  const { revision, addresses, objects } = JSON.parse(Buffer.from(body).toString('utf8'));
  const state = stateFromJson(JSON.stringify(objects));
  if (!state.ok) throw state.error;
  return { nodeId, name: nodeName, revision, addresses, state: state.value };
}

function traceRow({ hops, paths, outcome, reason }: Trace, tasks: readonly Task[]): object {
  return {
    outcome,
    reason,
    hops,
    paths: paths.map(({ server, taskId, ...path }) => ({
      address: server.address,
      port: server.port,
      weight: server.weight,
      task: taskName(taskId, tasks),
      ...path,
    })),
  };
}

function renderTrace(result: Trace, states: readonly NodeState[], tasks: readonly Task[], description: string): string {
  const revisions = states.map(({ name, revision }) => `${name} ${revision}`).join(', ');
  const parts = [lines([`${description} (kernels at revision: ${revisions})`, '']), hopTable(result.hops)];
  for (const path of result.paths) parts.push(lines(['', pathTitle(path, tasks)]), hopTable(path.hops));
  parts.push(lines(['', result.outcome === 'answered' ? 'answered' : `${result.outcome}: ${result.reason}`]));
  return parts.join('');
}

function pathTitle({ server, taskId, outcome }: Path, tasks: readonly Task[]): string {
  const name = taskName(taskId, tasks);
  return `real server ${server.address}, port ${server.port}${name === '' ? '' : `: ${name}`}: ${outcome}`;
}

/** `web.2 on node3, running`. */
function taskName(taskId: string | undefined, tasks: readonly Task[]): string {
  const task = tasks.find(({ id }) => id === taskId);
  if (task === undefined) return taskId ?? '';
  return `${task.serviceName}.${task.slot} on ${task.nodeName}, ${task.status?.state ?? ''}`;
}

function hopTable(hops: readonly Hop[]): string {
  const mark = { pass: '', refused: 'REFUSED: ', lost: 'LOST: ' };
  return renderTable(
    ['NODE', 'NETNS', 'OBJECT', 'EFFECT'],
    hops.map(({ node, netns, object, effect, verdict }) => [node, netns, object, `${mark[verdict]}${effect}`]),
  );
}
