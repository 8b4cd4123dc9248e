import type { Context } from '../context.ts';
import { resolveObjects } from '../resolve-object.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';

/** `meshctl service rm SERVICE…`: prints each name, like Docker, and does not wait for the tasks to end. */
export async function serviceRm(context: Context, names: string[]): Promise<number> {
  const { io, format } = context;
  const { control } = await context.api();
  const { found, status } = resolveObjects(io, 'service', (await control.listServices({})).services, names);
  if (found.length === 0) return status;
  const removed = await control.removeServices({ services: found.map(({ id }) => id) });
  const rows = removed.ids.map((id, index) => ({ id, name: removed.names[index] ?? '' }));
  io.out(format === 'json' ? renderJson(rows) : lines(rows.map(({ name }) => name)));
  return status;
}
