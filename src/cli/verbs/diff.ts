import type { Context } from '../context.ts';
import { resolveObject } from '../resolve-object.ts';
import { renderJson } from '../text/json.ts';
import { diffRow, renderSteps } from '../text/steps.ts';

/** `meshctl diff [NODE]`: desired against observed kernel state, of this node or, through the manager, of another one. */
export async function diff(context: Context, name: string | undefined): Promise<number> {
  const { io, format } = context;
  const { control, local } = await context.api();
  const { nodeName, nodeId } = await local.info({});
  const ownNode = name === undefined || name === 'self' || name === nodeName || name === nodeId;
  const node = ownNode ? await local.diff({}) : await other();
  io.out(format === 'json' ? renderJson([diffRow(node)]) : renderSteps([node]));
  return node.error === '' ? 0 : 1;

  async function other() {
    const { nodes } = await control.plan({ services: [] });
    const named = nodes.map((diff) => ({ id: diff.nodeId, name: diff.nodeName, diff }));
    const selected = resolveObject('node', named, name!);
    if (!selected.ok) throw selected.error;
    return selected.value.diff;
  }
}
