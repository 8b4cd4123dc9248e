import type { Node } from '../../model/cluster.ts';
import { isLabelKey } from '../../model/label.ts';
import { type Context, UsageError } from '../context.ts';
import { resolveObject } from '../resolve-object.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';
import { nodeRow } from '../text/node.ts';

export interface NodeUpdateOptions {
  labelAdd?: string[];
  labelRm?: string[];
  availability?: Node['availability'];
}

/** `meshctl node update --label-add KEY=VALUE --label-rm KEY --availability WHAT NODE` */
export async function nodeUpdate(context: Context, name: string, options: NodeUpdateOptions): Promise<number> {
  const { labelAdd = [], labelRm = [], availability } = options;
  if (labelAdd.length === 0 && labelRm.length === 0 && availability === undefined) {
    throw new UsageError('nothing to change; use --label-add KEY=VALUE, --label-rm KEY or --availability WHAT');
  }
  const setLabels = Object.fromEntries(labelAdd.map(parseLabel));
  const { control, local } = await context.api();
  const [{ nodes }, { nodeId }] = await Promise.all([control.listNodes({}), local.info({})]);
  const picked = resolveObject('node', nodes, name === 'self' ? nodeId : name);
  if (!picked.ok) throw picked.error;
  const node = await control.updateNode({
    node: picked.value.id,
    setLabels,
    removeLabels: labelRm,
    ...(availability === undefined ? {} : { availability }),
  });
  context.io.out(context.format === 'json' ? renderJson([nodeRow(node, nodeId)]) : lines([node.name]));
  return 0;
}

/** `zone=a`; a key without a value has an empty value, as in Docker. */
function parseLabel(word: string): [string, string] {
  const equals = word.indexOf('=');
  const key = equals < 0 ? word : word.slice(0, equals);
  if (!isLabelKey(key)) throw new UsageError(`"${word}" is not a label; use the form zone=a`);
  return [key, equals < 0 ? '' : word.slice(equals + 1)];
}
