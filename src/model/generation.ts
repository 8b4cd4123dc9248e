import type { Stored, Task } from './cluster.ts';
import type { ServiceSpec } from './spec.ts';

/** What a task runs: the part of a spec whose change needs new tasks. */
export type TaskTemplate = Pick<ServiceSpec, 'runtime' | 'command' | 'workingDir' | 'user' | 'environment' | 'health'>;

/**
 * The template of all tasks of one generation of a service, stored once: a large environment costs as much as one task
 * has, not as many. Never changes; removed when neither its service nor a task refers to it.
 */
export interface Generation extends Stored {
  serviceId: string;
  generation: number;
  template: TaskTemplate;
}

export function generationId(serviceId: string, generation: number): string {
  return `${serviceId}.${generation}`;
}

/** A generation as it is first stored, `now` ms since the epoch. */
export function newGeneration(serviceId: string, generation: number, spec: ServiceSpec, now: number): Generation {
  return {
    id: generationId(serviceId, generation),
    version: 0,
    createdAt: now,
    updatedAt: now,
    serviceId,
    generation,
    template: taskTemplate(spec),
  };
}

export function taskTemplate({ runtime, command, workingDir, user, environment, health }: ServiceSpec): TaskTemplate {
  return {
    runtime,
    command,
    workingDir,
    environment,
    ...(user === undefined ? {} : { user }),
    ...(health === undefined ? {} : { health }),
  };
}

/** Where the template of a task is looked up. */
export interface TemplateSource {
  template(task: Pick<Task, 'serviceId' | 'generation'>): TaskTemplate;
}
