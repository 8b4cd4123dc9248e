import type { Context } from '../context.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';
import { renderServices, serviceRow } from '../text/service.ts';

export async function serviceLs({ io, format, api }: Context, options: { quiet?: boolean }): Promise<number> {
  const { services } = await (await api()).control.listServices({});
  services.sort((a, b) => (a.name < b.name ? -1 : 1));
  if (format === 'json') io.out(renderJson(services.map(serviceRow)));
  else if (options.quiet === true) io.out(lines(services.map(({ id }) => id)));
  else io.out(renderServices(services));
  return 0;
}
