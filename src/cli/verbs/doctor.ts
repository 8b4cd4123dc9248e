import type { DoctorReport } from '../../model/doctor.ts';
import type { NodeAnswer } from '../../rpc/gen/mesh.ts';
import type { Context } from '../context.ts';
import { type CheckupReply, evaluateCluster } from '../doctor-findings.ts';
import { resolveObjects } from '../resolve-object.ts';
import { renderDoctor } from '../text/doctor.ts';
import { renderJson } from '../text/json.ts';

/** A node tests its kernel and pings every other node in two sizes. */
const REQUEST_TIMEOUT = 45_000;

/** `meshctl doctor [NODE…]`: exit status 1 if a node has an error. */
export async function doctor(context: Context, names: string[], options: { verbose?: boolean }): Promise<number> {
  const { io, format } = context;
  const { control, local } = await context.api();
  const [{ nodes }, { nodeId }] = await Promise.all([control.listNodes({}), local.info({})]);
  const requested = names.map((name) => (name === 'self' ? nodeId : name));
  const selected = requested.length === 0 ? { found: nodes, status: 0 } : resolveObjects(io, 'node', nodes, requested);
  if (selected.found.length === 0) return selected.status;
  const nodeIds = selected.found.filter(({ state }) => state === 'ready').map(({ id }) => id);
  const sent = io.now();
  const { nodes: answers } =
    nodeIds.length === 0
      ? { nodes: [] }
      : await control.ask({ nodes: nodeIds, kind: 'doctor', argument: '' }, { timeout: REQUEST_TIMEOUT });
  const received = io.now();
  const ownNode = nodes.find(({ id }) => id === nodeId);
  const checkups = answers.map(
    (answer): CheckupReply => ({ nodeId: answer.nodeId, ...parseCheckup(answer), sent, received }),
  );
  const results = evaluateCluster(selected.found, nodes, checkups, ownNode?.agentVersion ?? '');
  io.out(format === 'json' ? renderJson(results) : renderDoctor(results, options.verbose === true));
  const failed = results.some(({ findings }) => findings.some(({ level }) => level === 'error'));
  return failed ? 1 : selected.status;
}

/** The report of an agent of another version may have another form. */
function parseCheckup({ body, error }: NodeAnswer): { checkup: DoctorReport } | { error: string } {
  if (error !== '') return { error };
  try {
    const value = JSON.parse(Buffer.from(body).toString('utf8')) as DoctorReport;
    const isComplete = typeof value.now === 'number' && typeof value.took === 'number';
    if (isComplete && Array.isArray(value.findings) && Array.isArray(value.echoes)) return { checkup: value };
  } catch {
    // reported below
  }
  return { error: 'its report cannot be read; is its meshd of another version?' };
}
