import type { Context } from '../context.ts';
import { resolveObjects } from '../resolve-object.ts';
import { ageText } from '../text/age.ts';
import { renderJson } from '../text/json.ts';
import { nodeRow } from '../text/node.ts';
import { renderDetails } from '../text/table.ts';

/** `meshctl node inspect NODE…`: JSON by default, as in Docker. */
export async function nodeInspect(context: Context, names: string[], options: { pretty?: boolean }): Promise<number> {
  const { io, explicitFormat } = context;
  const { control, local } = await context.api();
  const [{ nodes }, { nodeId }] = await Promise.all([control.listNodes({}), local.info({})]);
  const { found, status } = resolveObjects(
    io,
    'node',
    nodes,
    names.map((name) => (name === 'self' ? nodeId : name)),
  );
  const rows = found.map((node) => nodeRow(node, nodeId));
  if (options.pretty !== true && explicitFormat !== 'table') io.out(renderJson(rows));
  else {
    const texts = rows.map((row) =>
      renderDetails({
        id: row.id,
        name: row.name,
        role: row.role,
        status: `${row.status} for ${ageText(io.now() - row.stateSince)}`,
        availability: row.availability,
        address: row.address,
        number: row.number,
        version: row.version,
        kernel: row.kernel,
        'tasks running': row.tasks,
        'assignment revision': row.revision,
        labels: row.labels,
        conditions: row.conditions.length === 0 ? undefined : row.conditions.join('; '),
      }),
    );
    io.out(texts.join('\n'));
  }
  return status;
}
