import type { Context } from '../context.ts';
import { renderJson } from '../text/json.ts';
import { portRow, renderPorts, sortPorts } from '../text/port.ts';

/** `meshctl port ls`: every published port, and the nodes where it is degraded. */
export async function portLs({ io, format, api }: Context): Promise<number> {
  const { ports } = await (await api()).control.listPorts({});
  const sorted = sortPorts(ports);
  io.out(format === 'json' ? renderJson(sorted.map(portRow)) : renderPorts(sorted));
  return 0;
}
