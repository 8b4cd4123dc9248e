import { MeshError } from '../../base/errors.ts';
import type { ConnectionRoutes } from '../../model/route-lookup.ts';
import type { TraceReply, TraceRequest } from '../../rpc/messages.ts';
import type { NodeState } from '../../trace/packet.ts';
import type { Path } from '../../trace/real-server.ts';
import { trace } from '../../trace/trace.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { type AskNodes, type Parsed, parseKernelAnswer, parseRoutesAnswer } from './node-answers.ts';
import type { Presenter } from './presenter.ts';
import { involvedNodes, resolveEnds, type TraceEnds, tracedTargets } from './trace-request.ts';

/** Gathers the kernel objects and routes of the nodes involved and follows the packet. Errors as resolveEnds and askRoutes. */
export async function traceConnection(
  request: TraceRequest,
  index: ClusterIndex,
  presenter: Presenter,
  ask: AskNodes,
): Promise<TraceReply> {
  const { protocol, port } = request;
  const targets = tracedTargets(request, index);
  const argument = JSON.stringify({ protocol, published: port, ...(targets.length === 0 ? {} : { targets }) });
  const answers = await ask(involvedNodes(request, index), 'kernel', argument);
  const nodes: TraceReply['nodes'] = [];
  const states: NodeState[] = [];
  for (const answer of answers) {
    const { nodeId, nodeName } = answer;
    const parsed = parseKernelAnswer(answer);
    if ('error' in parsed) nodes.push({ nodeId, nodeName, revision: 0, error: parsed.error });
    else {
      nodes.push({ nodeId, nodeName, revision: parsed.value.revision, error: '' });
      states.push(parsed.value);
    }
  }
  const ends = resolveEnds(request, states, index);
  const routes = await askRoutes(ends, request, index, ask);
  const { hops, paths, outcome, reason } = trace({ ...ends, protocol, port, routes }, states);
  return {
    client: ends.client,
    destination: ends.destination,
    nodes,
    outcome,
    reason,
    hops,
    paths: paths.map((path) => presentPath(path, index, presenter)),
  };
}

/** The ways of the connection through the host it enters. Throws MeshError `unavailable` if the node does not report them. */
async function askRoutes(
  { client, destination: called, node }: TraceEnds,
  { protocol, port: published }: TraceRequest,
  index: ClusterIndex,
  ask: AskNodes,
): Promise<ConnectionRoutes> {
  const entry = index.node(node.nodeId);
  const argument = JSON.stringify({ client, called, protocol, published });
  const [answer] = entry === undefined ? [] : await ask([entry], 'routes', argument);
  const routes: Parsed<ConnectionRoutes> =
    answer === undefined ? { error: 'it was removed' } : parseRoutesAnswer(answer);
  if ('value' in routes) return routes.value;
  throw new MeshError('unavailable', `${node.name} did not report the routes of its host: ${routes.error}`);
}

function presentPath(
  { server, taskId, hops, outcome, reason }: Path,
  index: ClusterIndex,
  presenter: Presenter,
): TraceReply['paths'][number] {
  const task = taskId === undefined ? undefined : index.task(taskId);
  return {
    address: server.address,
    port: server.port,
    weight: server.weight,
    ...(taskId === undefined ? {} : { taskId }),
    ...(task === undefined ? {} : { task: presenter.task(task) }),
    outcome,
    reason,
    hops,
  };
}
