import { traceBalancer } from './balancer.ts';
import { traceHost } from './host.ts';
import type { Hop, NodeState, Outcome, TraceRequest } from './packet.ts';
import type { PartialPath } from './partial-path.ts';
import { type Path, traceServer } from './real-server.ts';

export interface Trace {
  /** Hops up to the balancer. */
  hops: Hop[];
  /** One for each real server that accepts new connections. */
  paths: Path[];
  /** `answered` if all paths are. */
  outcome: Outcome;
  /** The cause and what to do; empty when answered. */
  reason: string;
}

/**
 * The paths of the first packet of a connection to every real server it may reach, and of the replies, evaluated on the
 * dumped kernel states of `nodes`. Nodes whose state is unavailable are absent.
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
