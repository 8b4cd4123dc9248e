import type { Context } from '../context.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';
import { nodeRow, renderNodes } from '../text/node.ts';

export async function nodeLs(context: Context, options: { quiet?: boolean }): Promise<number> {
  const { io, format } = context;
  const { control, local } = await context.api();
  const [{ nodes }, { nodeId }] = await Promise.all([control.listNodes({}), local.info({})]);
  nodes.sort((a, b) => (a.name < b.name ? -1 : 1));
  if (format === 'json') io.out(renderJson(nodes.map((node) => nodeRow(node, nodeId))));
  else if (options.quiet === true) io.out(lines(nodes.map(({ id }) => id)));
  else io.out(renderNodes(nodes, nodeId));
  return 0;
}
