import type { Context } from '../context.ts';
import { resolveObjects } from '../resolve-object.ts';
import { renderJson } from '../text/json.ts';
import { lines } from '../text/lines.ts';
import { renderTasks, sortTasks, taskRow } from '../text/task.ts';

/** `meshctl service ps SERVICE…`: tasks and the history of each slot. */
export async function servicePs(context: Context, names: string[], options: { quiet?: boolean }): Promise<number> {
  const { io, format } = context;
  const { control } = await context.api();
  const { services } = await control.listServices({});
  const { found, status } = resolveObjects(io, 'service', services, names);
  const lists = await Promise.all(found.map(({ id }) => control.listTasks({ service: id, includeEnded: true })));
  // Ports can change without a new task: the current ones are those of the service.
  const tasks = sortTasks(
    lists.flatMap((list, index) => list.tasks.map((task) => ({ ...task, ports: found[index]?.spec?.ports ?? [] }))),
  );
  if (format === 'json') io.out(renderJson(tasks.map(taskRow)));
  else if (options.quiet === true) io.out(lines(tasks.map(({ id }) => id)));
  else if (found.length > 0) io.out(renderTasks(tasks, io.now()));
  return status;
}
