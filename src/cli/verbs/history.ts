import { MeshError } from '../../base/errors.ts';
import type { ChangeRecord, HistoryQuery } from '../../model/change-record.ts';
import type { Node, NodeAnswer } from '../../rpc/messages.ts';
import type { Context } from '../context.ts';
import { resolveObjects } from '../resolve-object.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';
import { renderTable } from '../text/table.ts';

export interface HistoryOptions {
  /** ms */
  since?: number;
  service?: string;
  limit?: number;
}

type NodeChange = ChangeRecord & { id: string; name: string };

/** Changes shown without --limit. */
const DEFAULT_LIMIT = 50;
/** Maximum lines per change in the table; JSON has more. */
const MAX_DETAIL_LINES = 5;

/** `meshctl history [NODE…]`: exit status 1 if a node did not answer; the others are shown. */
export async function history(context: Context, names: string[], options: HistoryOptions): Promise<number> {
  const { io, format } = context;
  const { control, local } = await context.api();
  const [{ nodes }, { nodeId }] = await Promise.all([control.listNodes({}), local.info({})]);
  const requested = names.map((name) => (name === 'self' ? nodeId : name));
  const { found: selected, status } = resolveObjects(io, 'node', nodes, requested);
  if (selected.length === 0 && names.length > 0) return 1;
  const limit = options.limit ?? DEFAULT_LIMIT;
  const query: HistoryQuery = {
    limit,
    ...(options.since === undefined ? {} : { age: options.since }),
    ...(options.service === undefined ? {} : { service: options.service }),
  };
  const request = { nodes: selected.map(({ id }) => id), kind: 'history', argument: JSON.stringify(query) };
  const { nodes: answers } = await control.ask(request);
  let exitStatus = status;
  const changes: NodeChange[] = [];
  for (const answer of answers) {
    try {
      changes.push(...(await parseChanges(answer)));
    } catch (thrown) {
      exitStatus = 1;
      io.err(lines([`meshctl: ${answer.nodeName} did not answer: ${(thrown as MeshError).message}`]));
    }
  }
  const newest = changes.sort((a, b) => a.at - b.at).slice(-limit);
  io.out(format === 'json' ? renderJson(newest.map(changeRow)) : renderChanges(newest, nodes));
  return exitStatus;
}

/** Throws a MeshError if the node reported an error or its answer cannot be read. */
async function parseChanges({ nodeId, nodeName, body, error }: NodeAnswer): Promise<NodeChange[]> {
  if (error !== '') throw new MeshError('unavailable', error);
  // Imported here because its schemas load zod, which no other verb for nodes needs.
  const { parseHistoryResult } = await import('../../model/node-answers.ts');
  return parseHistoryResult(body).changes.map((change) => ({ ...change, id: nodeId, name: nodeName }));
}

function changeRow(change: NodeChange) {
  const { id, name, at, took, why, revision, wrong, by, services, steps, count, failures } = change;
  return { id, name, at, took, why, revision, wrong, by, services, steps, count, failures };
}

function renderChanges(changes: readonly NodeChange[], nodes: readonly Node[]): string {
  const showNodes = nodes.length > 1;
  const rows = changes.flatMap((change) => {
    const { at, name, took, count, wrong, steps, failures } = change;
    const details = [...wrong.map((fault) => `wrong: ${fault}`), ...steps, ...failures.map((one) => `failed: ${one}`)];
    const shown =
      details.length > MAX_DETAIL_LINES + 1
        ? [...details.slice(0, MAX_DETAIL_LINES), `… ${details.length - MAX_DETAIL_LINES} more lines`]
        : details;
    const head = [timeText(at), ...(showNodes ? [name] : []), reasonText(change), `${took} ms`, String(count)];
    const blank = head.map(() => '');
    return (shown.length > 0 ? shown : ['']).map((line, index) => [...(index === 0 ? head : blank), line]);
  });
  return renderTable(['TIME', ...(showNodes ? ['NODE'] : []), 'WHY', 'TOOK', 'STEPS', 'WHAT'], rows);
}

function reasonText({ why, by, revision }: ChangeRecord): string {
  switch (why) {
    case 'assignment':
      return `revision ${revision}`;
    case 'start':
      return `start, revision ${revision}`;
    case 'repair':
      return by.length > 0 ? `repair, changed by ${by.join(', ')}` : 'repair';
    default:
      return why;
  }
}

/** `2026-11-21 08:41:43.120` in UTC, because nodes may be in several time zones. */
const timeText = (at: number): string => new Date(at).toISOString().replace('T', ' ').replace('Z', '');
