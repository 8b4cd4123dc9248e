import { messageOf } from '../../base/errors.ts';
import type { Context } from '../context.ts';
import { renderJson } from '../text/json.ts';
import { sanitize } from '../text/table.ts';

/** Put in by the bundler. */
declare const MESHD_VERSION: string;

export const VERSION = typeof MESHD_VERSION === 'undefined' ? '0.0.0-source' : MESHD_VERSION;

/** `meshctl version`: meshctl's own, and that of the meshd it talks to, when there is one. */
export async function version({ io, format, api }: Context): Promise<number> {
  const rows: { id: string; name: string; version: string }[] = [{ id: 'meshctl', name: 'meshctl', version: VERSION }];
  let missing = '';
  try {
    const info = await (await api()).local.info({});
    rows.push({ id: info.nodeId, name: 'meshd', version: info.version });
  } catch (error) {
    missing = messageOf(error);
  }
  if (format === 'json') io.out(renderJson(rows));
  else {
    io.out(rows.map(({ name, version }) => `${name.padEnd(9)}${version}\n`).join(''));
    if (missing !== '') io.out(`meshd    ${sanitize(missing)}\n`);
  }
  return 0;
}
