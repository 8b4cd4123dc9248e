import type { Protocol } from '../../model/address.ts';
import { parseHostPort } from '../../model/host-port.ts';
import type { TraceReply } from '../../rpc/messages.ts';
import { type Context, UsageError } from '../context.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';
import { renderTable } from '../text/table.ts';

type TracePath = TraceReply['paths'][number];

/** The destination as given on the command line. */
interface Target {
  node: string;
  protocol: Protocol;
  port: number;
}

/** `meshctl trace CLIENT NODE:PORT`: exit status 1 if the packet would not be answered. */
export async function traceVerb(context: Context, client: string, to: string): Promise<number> {
  const { io, format } = context;
  const target = parseTarget(to);
  const reply = await (await context.api()).control.trace({ client, ...target });
  for (const { nodeName, error } of reply.nodes) {
    if (error !== '') io.err(lines([`meshctl: ${nodeName} did not answer: ${error}`]));
  }
  io.out(format === 'json' ? renderJson([traceRow(reply)]) : renderTrace(reply, target));
  return reply.outcome === 'answered' ? 0 : 1;
}

/** `node1:8080`, `192.0.2.1:53/udp`, `[2001:db8::1]:8080`. */
export function parseTarget(word: string): Target {
  const [, endpoint = '', protocol = 'tcp'] = /^(.*?)(?:\/(tcp|udp|sctp))?$/.exec(word) ?? [];
  const parsed = parseHostPort(endpoint);
  if (parsed === undefined || parsed.port === 0) {
    throw new UsageError(`${word} is not NODE:PORT, such as node1:8080, 192.0.2.1:53/udp or [2001:db8::1]:8080`);
  }
  return { node: parsed.host, port: parsed.port, protocol: protocol as Protocol };
}

function traceRow({ outcome, reason, hops, paths }: TraceReply): object {
  return {
    outcome,
    reason,
    hops,
    paths: paths.map((path) => {
      const { address, port, weight, hops, outcome, reason } = path;
      return { address, port, weight, task: taskName(path), hops, outcome, reason };
    }),
  };
}

function renderTrace(reply: TraceReply, { port, protocol }: Target): string {
  const { client, destination, nodes, hops, paths, outcome, reason } = reply;
  const revisions = nodes.flatMap(({ nodeName, revision, error }) => (error === '' ? [`${nodeName} ${revision}`] : []));
  const title = `${client} to ${destination}, port ${port}/${protocol} (kernels at revision: ${revisions.join(', ')})`;
  const parts = [lines([title, '']), hopTable(hops)];
  for (const path of paths) parts.push(lines(['', pathTitle(path)]), hopTable(path.hops));
  parts.push(lines(['', outcome === 'answered' ? 'answered' : `${outcome}: ${reason}`]));
  return parts.join('');
}

function pathTitle(path: TracePath): string {
  const name = taskName(path);
  return `real server ${path.address}, port ${path.port}${name === '' ? '' : `: ${name}`}: ${path.outcome}`;
}

/** `web.2 on node3, running`; the id of a task that the manager does not know. */
function taskName({ task, taskId = '' }: TracePath): string {
  if (task === undefined) return taskId;
  return `${task.serviceName}.${task.slot} on ${task.nodeName}, ${task.status?.state ?? ''}`;
}

function hopTable(hops: TraceReply['hops']): string {
  const mark = { pass: '', refused: 'REFUSED: ', lost: 'LOST: ' };
  return renderTable(
    ['NODE', 'NETNS', 'OBJECT', 'EFFECT'],
    hops.map(({ node, netns, object, effect, verdict }) => [node, netns, object, `${mark[verdict]}${effect}`]),
  );
}
