import type { NodeCheckup } from '../model/doctor.ts';
import type { NodeAnswer } from '../rpc/gen/mesh.ts';
import type { Context } from './context.ts';
import { type Checkup, judgeCluster } from './doctor-judge.ts';
import { renderDoctor } from './doctor-text.ts';
import { renderJson } from './json.ts';
import { pickAll } from './pick.ts';

/** A node pings every other in two sizes and tries its kernel. */
const PATIENCE = 45_000;

/** `meshctl doctor [NODE…]`: status 1 when a node has an error. */
export async function doctor(context: Context, names: string[], options: { verbose?: boolean }): Promise<number> {
  const { io, format } = context;
  const { control, local } = await context.api();
  const [{ nodes }, { nodeId }] = await Promise.all([control.listNodes({}), local.info({})]);
  const wanted = names.map((name) => (name === 'self' ? nodeId : name));
  const picked = wanted.length === 0 ? { found: nodes, status: 0 } : pickAll(io, 'node', nodes, wanted);
  if (picked.found.length === 0) return picked.status;
  const asked = picked.found.filter(({ state }) => state === 'ready').map(({ id }) => id);
  const sent = io.now();
  const { nodes: answers } =
    asked.length === 0
      ? { nodes: [] }
      : await control.ask({ nodes: asked, kind: 'doctor', argument: '' }, { timeout: PATIENCE });
  const received = io.now();
  const here = nodes.find(({ id }) => id === nodeId);
  const checkups = answers.map((answer): Checkup => ({ nodeId: answer.nodeId, ...readAnswer(answer), sent, received }));
  const results = judgeCluster(picked.found, nodes, checkups, here?.agentVersion ?? '');
  io.out(format === 'json' ? renderJson(results) : renderDoctor(results, options.verbose === true));
  const failed = results.some(({ findings }) => findings.some(({ level }) => level === 'error'));
  return failed ? 1 : picked.status;
}

/** An agent of another version may say things in another way. */
function readAnswer({ body, error }: NodeAnswer): { checkup: NodeCheckup } | { error: string } {
  if (error !== '') return { error };
  try {
    const value = JSON.parse(Buffer.from(body).toString('utf8')) as NodeCheckup;
    const good = typeof value.now === 'number' && typeof value.took === 'number';
    if (good && Array.isArray(value.findings) && Array.isArray(value.echoes)) return { checkup: value };
  } catch {
    // told below
  }
  return { error: 'its answer makes no sense to this meshctl: upgrade one of the two' };
}
