import { ageText } from './age.ts';
import type { Context } from './context.ts';
import { renderJson } from './json.ts';
import { nodeRow } from './node-text.ts';
import { pickAll } from './pick.ts';
import { renderDetails } from './table.ts';

/** `meshctl node inspect NODE…`: JSON unless asked for something to read, as in Docker. */
export async function nodeInspect(context: Context, names: string[], options: { pretty?: boolean }): Promise<number> {
  const { io, asked } = context;
  const { control, local } = await context.api();
  const [{ nodes }, { nodeId }] = await Promise.all([control.listNodes({}), local.info({})]);
  const { found, status } = pickAll(
    io,
    'node',
    nodes,
    names.map((name) => (name === 'self' ? nodeId : name)),
  );
  const rows = found.map((node) => nodeRow(node, nodeId));
  if (options.pretty !== true && asked !== 'table') io.out(renderJson(rows));
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
