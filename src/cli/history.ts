import { MeshError } from '../base/errors.ts';
import type { ChangeRecord, HistoryAnswer, HistoryQuestion } from '../model/change-record.ts';
import type { Node, NodeAnswer } from '../rpc/gen/mesh.ts';
import type { Context } from './context.ts';
import { renderJson } from './json.ts';
import { pickAll } from './pick.ts';
import { renderTable } from './table.ts';

export interface HistoryOptions {
  /** ms */
  since?: number;
  service?: string;
  limit?: number;
}

type Change = ChangeRecord & { id: string; name: string };

/** Changes shown when nobody says how many. */
const LIMIT = 50;
/** Lines a change takes at most in the table; JSON has more of them. */
const LINES = 5;

/** `meshctl history [NODE…]`: status 1 when a node could not be asked; the others are shown all the same. */
export async function history(context: Context, names: string[], options: HistoryOptions): Promise<number> {
  const { io, format } = context;
  const { control, local } = await context.api();
  const [{ nodes }, { nodeId }] = await Promise.all([control.listNodes({}), local.info({})]);
  const wanted = names.map((name) => (name === 'self' ? nodeId : name));
  const { found, status } = pickAll(io, 'node', nodes, wanted);
  if (found.length === 0 && names.length > 0) return 1;
  const limit = options.limit ?? LIMIT;
  const question: HistoryQuestion = {
    limit,
    ...(options.since === undefined ? {} : { age: options.since }),
    ...(options.service === undefined ? {} : { service: options.service }),
  };
  const asked = { nodes: found.map(({ id }) => id), kind: 'history', argument: JSON.stringify(question) };
  const { nodes: answers } = await control.ask(asked);
  let failed = status;
  const changes: Change[] = [];
  for (const answer of answers) {
    try {
      changes.push(...changesOf(answer));
    } catch (thrown) {
      failed = 1;
      io.err(`meshctl: ${answer.nodeName} could not be asked: ${(thrown as MeshError).message}\n`);
    }
  }
  const newest = changes.sort((a, b) => a.at - b.at).slice(-limit);
  io.out(format === 'json' ? renderJson(newest.map(rowOf)) : table(newest, nodes));
  return failed;
}

/** Throws MeshError with what the node said, or for an answer that is none. */
function changesOf({ nodeId, nodeName, body, error }: NodeAnswer): Change[] {
  if (error !== '') throw new MeshError('unavailable', error);
  try {
    const { changes } = JSON.parse(Buffer.from(body).toString('utf8')) as HistoryAnswer;
    return changes.map((change) => ({ ...change, id: nodeId, name: nodeName }));
  } catch (cause) {
    throw new MeshError('internal', 'its answer cannot be read: is its meshd of another version?', { cause });
  }
}

function rowOf({ at, ...change }: Change) {
  return { ...change, at: new Date(at).toISOString() };
}

function table(changes: readonly Change[], nodes: readonly Node[]): string {
  const several = nodes.length > 1;
  const rows = changes.flatMap((change) => {
    const { at, name, took, count, wrong, steps, failures } = change;
    const told = [...wrong.map((fault) => `wrong: ${fault}`), ...steps, ...failures.map((one) => `failed: ${one}`)];
    const shown = told.length > LINES + 1 ? [...told.slice(0, LINES), `… ${told.length - LINES} lines more`] : told;
    const head = [timeText(at), ...(several ? [name] : []), whyText(change), `${took} ms`, String(count)];
    const blank = head.map(() => '');
    return (shown.length > 0 ? shown : ['']).map((line, index) => [...(index === 0 ? head : blank), line]);
  });
  return renderTable(['TIME', ...(several ? ['NODE'] : []), 'WHY', 'TOOK', 'STEPS', 'WHAT'], rows);
}

function whyText({ why, by, revision }: ChangeRecord): string {
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

/** `2026-11-21 08:41:43.120`, in UTC: nodes and people may be in several time zones. */
const timeText = (at: number): string => new Date(at).toISOString().replace('T', ' ').replace('Z', '');
