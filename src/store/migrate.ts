import type { Service, Stored, Task } from '../model/cluster.ts';
import { generationId, newGeneration } from '../model/generation.ts';
import type { ServiceSpec } from '../model/spec.ts';
import type { Collection } from './store.ts';

/** A task as format 1 had it: with a whole copy of its service's spec. */
type TaskWithSpec = Omit<Task, 'hasHealthCheck' | 'stopGracePeriod'> & { spec: ServiceSpec };

interface ObjectsByCollection {
  list(collection: Collection): Stored[];
}

/** Objects that format 2 holds instead of those of format 1: tasks refer to generations, each of which is stored once. */
export function migrateFromFormat1(objects: ObjectsByCollection): { collection: Collection; object: Stored }[] {
  const migrated: { collection: Collection; object: Stored }[] = [];
  const generations = new Map<string, Stored>();
  const addGeneration = (serviceId: string, generation: number, spec: ServiceSpec, at: number) => {
    const id = generationId(serviceId, generation);
    if (!generations.has(id)) generations.set(id, { ...newGeneration(serviceId, generation, spec, at), version: 1 });
  };
  for (const { id, taskGeneration, spec, updatedAt } of objects.list('services') as Service[]) {
    addGeneration(id, taskGeneration, spec, updatedAt);
  }
  for (const { spec, ...task } of objects.list('tasks') as TaskWithSpec[]) {
    addGeneration(task.serviceId, task.generation, spec, task.createdAt);
    const object: Task = {
      ...task,
      ...(spec.health === undefined ? {} : { hasHealthCheck: true }),
      stopGracePeriod: spec.stopGracePeriod,
    };
    migrated.push({ collection: 'tasks', object });
  }
  for (const object of generations.values()) migrated.push({ collection: 'generations', object });
  return migrated;
}
