import type { Service, Task } from '../model/cluster.ts';
import type { Generation } from '../model/generation.ts';

/**
 * Of the stored generations of a service, those that nothing refers to any more. `service` is undefined once it is
 * removed for good; `tasks` are all of its tasks, ended ones too.
 */
export function unusedGenerations(
  generations: Iterable<Generation>,
  service: Pick<Service, 'taskGeneration'> | undefined,
  tasks: readonly Pick<Task, 'generation'>[],
): Generation[] {
  const used = new Set(tasks.map(({ generation }) => generation));
  if (service !== undefined) used.add(service.taskGeneration);
  return [...generations].filter(({ generation }) => !used.has(generation));
}
