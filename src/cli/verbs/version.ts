import { messageOf } from '../../base/errors.ts';
import type { Context } from '../context.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';

/** Put in by the bundler. */
declare const MESHD_VERSION: string;

export const VERSION = typeof MESHD_VERSION === 'undefined' ? '0.0.0-source' : MESHD_VERSION;

/** `meshctl version`: the versions of meshctl and, if it is reachable, of meshd. */
export async function version({ io, format, api }: Context): Promise<number> {
  const rows: { id: string; name: string; version: string }[] = [{ id: 'meshctl', name: 'meshctl', version: VERSION }];
  let unreachable = '';
  try {
    const info = await (await api()).local.info({});
    rows.push({ id: info.nodeId, name: 'meshd', version: info.version });
  } catch (error) {
    unreachable = messageOf(error);
  }
  if (format === 'json') io.out(renderJson(rows));
  else {
    io.out(lines(rows.map(({ name, version }) => `${name.padEnd(9)}${version}`)));
    if (unreachable !== '') io.out(lines([`meshd    ${unreachable}`]));
  }
  return 0;
}
