import { traceBalancer } from './balancer.ts';
import { traceHost } from './host.ts';
import type { Hop, NodeState, Outcome, TraceRequest } from './packet.ts';
import type { PartialPath } from './partial-path.ts';
import { type Path, traceServer } from './real-server.ts';

export interface Trace {
  /** Up to the balancer. */
  hops: Hop[];
  /** One for each real server that takes new connections. */
  paths: Path[];
  /** `answered` when every path is. */
  outcome: Outcome;
  /** Why not, and what to do; empty when answered. */
  reason: string;
}

/**
 * The way of the first packet of a connection to everything it may reach, and of the answers back, judged by what the
 * kernels of `nodes` held when they were dumped. Nodes that could not be asked are missing in it.
 */
export function trace(request: TraceRequest, nodes: readonly NodeState[]): Trace {
  const partial: PartialPath = { node: request.node, hops: [] };
  const inLb = traceHost(partial, request);
  const servers = inLb && traceBalancer(partial, inLb);
  if (servers === undefined) return { hops: partial.hops, paths: [], ...partial.end! };
  const paths = servers.map((server) => traceServer(server, request, nodes));
  const failed = paths.filter(({ outcome }) => outcome !== 'answered');
  if (failed.length === 0) return { hops: partial.hops, paths, outcome: 'answered', reason: '' };
  const share = failed.length === paths.length ? 'every' : `${failed.length} of ${paths.length}`;
  const [{ outcome, reason }] = failed as [Path];
  return { hops: partial.hops, paths, outcome, reason: `${share} real server is out of reach: ${reason}` };
}
