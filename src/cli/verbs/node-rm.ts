import type { Context } from '../context.ts';
import { resolveObjects } from '../resolve-object.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';

export async function nodeRm(context: Context, names: string[], options: { force?: boolean }): Promise<number> {
  const { io, format } = context;
  const { control } = await context.api();
  const { found, status } = resolveObjects(io, 'node', (await control.listNodes({})).nodes, names);
  for (const { id } of found) await control.removeNode({ node: id, force: options.force === true });
  const rows = found.map(({ id, name }) => ({ id, name }));
  io.out(format === 'json' ? renderJson(rows) : lines(rows.map(({ name }) => name)));
  return status;
}
