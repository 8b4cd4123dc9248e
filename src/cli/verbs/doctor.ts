import type { Context } from '../context.ts';
import { resolveObjects } from '../resolve-object.ts';
import { doctorRow, renderDoctor } from '../text/doctor.ts';
import { renderJson } from '../text/json.ts';

/** A node tests its kernel and pings every other node in two sizes. */
const REQUEST_TIMEOUT = 45_000;

/** `meshctl doctor [NODE…]`: exit status 1 if a node has an error. */
export async function doctor(context: Context, names: string[], options: { verbose?: boolean }): Promise<number> {
  const { io, format } = context;
  const { control, local } = await context.api();
  const selected = { nodes: [] as string[], status: 0 };
  if (names.length > 0) {
    const [{ nodes }, { nodeId }] = await Promise.all([control.listNodes({}), local.info({})]);
    const requested = names.map((name) => (name === 'self' ? nodeId : name));
    const { found, status } = resolveObjects(io, 'node', nodes, requested);
    if (found.length === 0) return status;
    Object.assign(selected, { nodes: found.map(({ id }) => id), status });
  }
  const reply = await control.doctor({ nodes: selected.nodes }, { timeout: REQUEST_TIMEOUT });
  const rows = reply.nodes.map(doctorRow);
  io.out(format === 'json' ? renderJson(rows) : renderDoctor(rows, options.verbose === true));
  const failed = rows.some(({ findings }) => findings.some(({ level }) => level === 'error'));
  return failed ? 1 : selected.status;
}
