import type { Stored, Task } from './cluster.ts';
import type { ServiceSpec } from './spec.ts';

/** Fields of a spec that a task runs with; a change of one needs new tasks. */
export const TEMPLATE_FIELDS = [
  'runtime',
  'command',
  'workingDir',
  'user',
  'capAdd',
  'capDrop',
  'privileged',
  'environment',
  'log',
  'health',
] as const;

/** What a task runs. */
export type TaskTemplate = Pick<ServiceSpec, (typeof TEMPLATE_FIELDS)[number]>;

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

export function taskTemplate(spec: ServiceSpec): TaskTemplate {
  const declared = TEMPLATE_FIELDS.filter((field) => spec[field] !== undefined);
  return Object.fromEntries(declared.map((field) => [field, spec[field]])) as unknown as TaskTemplate;
}

/** Where the template of a task is looked up. */
export interface TemplateSource {
  template(task: Pick<Task, 'serviceId' | 'generation'>): TaskTemplate;
}
