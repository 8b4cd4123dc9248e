import type { TraceReply, TraceRequest } from '../../rpc/messages.ts';
import type { NodeState } from '../../trace/packet.ts';
import type { Path } from '../../trace/real-server.ts';
import { trace } from '../../trace/trace.ts';
import type { ClusterIndex } from './cluster-index.ts';
import { type AskNodes, parseKernelAnswer } from './node-answers.ts';
import type { Presenter } from './presenter.ts';
import { involvedNodes, resolveEnds } from './trace-request.ts';

/** Gathers the kernel objects of the nodes involved and follows the packet through them. Errors as resolveEnds. */
export async function traceConnection(
  request: TraceRequest,
  index: ClusterIndex,
  presenter: Presenter,
  ask: AskNodes,
): Promise<TraceReply> {
  const { protocol, port } = request;
  const argument = JSON.stringify({ protocol, published: port });
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
  const { hops, paths, outcome, reason } = trace({ ...ends, protocol, port }, states);
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
