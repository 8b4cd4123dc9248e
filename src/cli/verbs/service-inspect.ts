import type { PublishedPort, Service } from '../../rpc/messages.ts';
import type { Context } from '../context.ts';
import { resolveObjects } from '../resolve-object.ts';
import { renderJson } from '../text/json.ts';
import { conditionRow } from '../text/port.ts';
import { renderService } from '../text/service-details.ts';

/** `meshctl service inspect SERVICE…`: JSON by default, as in Docker. */
export async function serviceInspect(
  context: Context,
  names: string[],
  options: { pretty?: boolean },
): Promise<number> {
  const { io, explicitFormat } = context;
  const { control } = await context.api();
  const [{ services }, { ports }] = await Promise.all([control.listServices({}), control.listPorts({})]);
  const { found, status } = resolveObjects(io, 'service', services, names);
  const whole = found.map((service) => ({
    service,
    spec: service.spec!,
    ports: ports.filter(({ serviceId }) => serviceId === service.id),
  }));
  if (options.pretty !== true && explicitFormat !== 'table') io.out(renderJson(whole.map(inspectRow)));
  else io.out(whole.map(({ service, spec, ports }) => renderService(service, spec, ports)).join('\n'));
  return status;
}

function inspectRow({ service, spec, ports }: { service: Service; spec: object; ports: PublishedPort[] }) {
  const { id, name, version, createdAt, updatedAt, taskGeneration, running, desired, degraded } = service;
  return {
    id,
    name,
    version,
    createdAt,
    updatedAt,
    spec,
    taskGeneration,
    running,
    desired,
    degraded: degraded.map(conditionRow),
    picked: ports.flatMap(({ port, tasks }) =>
      tasks.map(({ taskId, nodeName, published }) => ({
        target: port?.target,
        protocol: port?.protocol,
        published,
        node: nodeName,
        taskId,
      })),
    ),
  };
}
