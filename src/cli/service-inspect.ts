import type { Context } from './context.ts';
import { renderJson } from './json.ts';
import { pickAll } from './pick.ts';
import { commandText, portsText } from './service-text.ts';
import { renderDetails } from './table.ts';

export async function serviceInspect(context: Context, names: string[]): Promise<number> {
  const { io, format } = context;
  const { services } = await (await context.api()).control.listServices({});
  const { found, status } = pickAll(io, 'service', services, names);
  if (format === 'json') {
    io.out(renderJson(found));
    return status;
  }
  const texts = found.map(({ spec, ...service }) =>
    renderDetails({
      id: service.id,
      name: service.name,
      mode: spec?.mode,
      replicas: `${service.running}/${service.desired} running`,
      command: commandText(spec?.command ?? []),
      'working dir': spec?.workingDir,
      user: spec?.user,
      ports: portsText(spec?.ports ?? []) || undefined,
      constraints:
        spec?.constraints.map(({ key, operator, value }) => `${key} ${operator} ${value}`).join(', ') || undefined,
      restart: spec?.restart?.condition,
      'stop grace period': `${(spec?.stopGracePeriod ?? 0) / 1000} s`,
      created: new Date(service.createdAt).toISOString(),
      updated: new Date(service.updatedAt).toISOString(),
      version: service.version,
      'task generation': service.taskGeneration,
      environment: spec?.environment,
      labels: spec?.labels,
    }),
  );
  io.out(texts.join('\n'));
  return status;
}
