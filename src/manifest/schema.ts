import * as z from 'zod';
import type { PortSpec, ServiceSpec } from '../model/spec.ts';
import { UNSUPPORTED } from './compose-keys.ts';
import {
  commandLine,
  constraints,
  count,
  directory,
  duration,
  environment,
  fail,
  kindOf,
  labels,
  longPort,
  oneOf,
  ports,
  text,
  user,
  withoutExtensions,
} from './fields.ts';
import { LIMITS } from './limits.ts';
import { shorten } from './manifest-error.ts';

const extensible = <T extends z.ZodType>(schema: T) => z.preprocess((value) => withoutExtensions(value), schema);

const restartPolicy = z.strictObject({
  condition: oneOf('any', 'on-failure', 'none').optional(),
  delay: duration.optional(),
  max_attempts: count(1_000_000, 'choose fewer attempts, or leave it out for no limit').optional(),
  window: duration.optional(),
});

const placement = z.strictObject({ constraints: constraints.optional() });

const deploy = z.strictObject({
  mode: oneOf('replicated', 'global').optional(),
  replicas: count(
    LIMITS.replicas,
    `one service has at most ${LIMITS.replicas} tasks: declare several services`,
  ).optional(),
  labels: labels.optional(),
  endpoint_mode: oneOf('vip').optional(), // what a mesh is
  placement: extensible(placement).optional(),
  restart_policy: extensible(restartPolicy).optional(),
});

const mesh = z.strictObject({ runtime: oneOf('process') });

const service = z.strictObject({
  command: commandLine.optional(),
  entrypoint: commandLine.optional(),
  working_dir: directory.optional(),
  user: user.optional(),
  environment: environment.optional(),
  labels: labels.optional(),
  ports: ports.optional(),
  stop_grace_period: duration.optional(),
  deploy: extensible(deploy).nullish(),
  'x-mesh': mesh.optional(),
});

/** The top of a file; `version` and `name` are allowed and mean nothing, as in compose, nor do networks nobody declares. */
export const file = z.preprocess(
  (value) => withoutNothing(withoutExtensions(value)),
  z.strictObject({
    version: z.unknown().optional(),
    name: text.optional(),
    services: z.record(z.string(), z.unknown()).optional(),
  }),
);

/** Without a `networks` that is empty, as tools write it. */
function withoutNothing(value: unknown): unknown {
  const { networks, ...rest } = (value ?? {}) as Record<string, unknown>;
  const isMap = typeof networks === 'object' && networks !== null && !Array.isArray(networks);
  return isMap && Object.keys(networks).length === 0 ? rest : value;
}

/** A service, with the entry in `ports` that each port comes from. */
export interface ParsedService {
  spec: Omit<ServiceSpec, 'name'>;
  portEntries: number[];
}

/** One entry under `services`, to a spec with every default filled in. */
export const serviceSchema = z.preprocess(
  (value) => withoutExtensions(value, ['x-mesh']),
  service.transform((given, ctx): ParsedService => {
    const { deploy, ports: declared = [] } = given;
    if (given['x-mesh'] === undefined) {
      const remedy = 'add `x-mesh: {runtime: process}` to run the command as a process on the nodes';
      fail(ctx, 'does not say how it is run: images are not supported yet', remedy);
    }
    const command = [...(given.entrypoint ?? []), ...(given.command ?? [])];
    if (command.length === 0 || command[0] === '') {
      fail(
        ctx,
        'has no command to run',
        'add one, such as `command: [sleep, "60"]`',
        given.command === undefined ? [] : ['command'],
      );
    }
    if (command.length > LIMITS.arguments) {
      fail(ctx, `the command has more than ${LIMITS.arguments} arguments`, 'put them in a file', ['command']);
    }
    const mode = deploy?.mode ?? 'replicated';
    if (mode === 'global' && deploy?.replicas !== undefined) {
      const remedy = 'remove `replicas`: a global service runs one task on every node';
      fail(ctx, 'replicas do not go together with mode global', remedy, ['deploy', 'replicas']);
    }
    const restart = deploy?.restart_policy;
    return {
      spec: {
        labels: sorted({ ...given.labels, ...deploy?.labels }),
        runtime: 'process',
        command,
        workingDir: given.working_dir ?? '/',
        ...(given.user === undefined ? {} : { user: given.user }),
        environment: given.environment ?? {},
        mode,
        replicas: deploy?.replicas ?? 1,
        constraints: deploy?.placement?.constraints ?? [],
        restart: {
          condition: restart?.condition ?? 'any',
          ...(restart?.delay === undefined ? {} : { delay: restart.delay }),
          maxAttempts: restart?.max_attempts ?? 0,
          window: restart?.window ?? 0,
        },
        stopGracePeriod: given.stop_grace_period ?? 10_000,
        ports: declared.map(({ port }): PortSpec => port),
      },
      portEntries: declared.map(({ entry }) => entry),
    };
  }),
);

function sorted(record: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

/** The keys meshd knows at a place below a service, and the compose keys there that it does not support yet. */
export function keysAt(path: readonly PropertyKey[]): { known: string[]; unsupported: Record<string, string> } {
  const none: Record<string, string> = {};
  switch (path.map((step) => (typeof step === 'number' ? '*' : String(step))).join('.')) {
    case '':
      return { known: Object.keys(service.shape), unsupported: UNSUPPORTED.service };
    case 'deploy':
      return { known: Object.keys(deploy.shape), unsupported: UNSUPPORTED.deploy };
    case 'deploy.placement':
      return { known: Object.keys(placement.shape), unsupported: UNSUPPORTED.placement };
    case 'deploy.restart_policy':
      return { known: Object.keys(restartPolicy.shape), unsupported: none };
    case 'ports.*':
      return { known: Object.keys(longPort.shape), unsupported: none };
    case 'x-mesh':
      return { known: Object.keys(mesh.shape), unsupported: none };
    default:
      return { known: [], unsupported: none };
  }
}

export const FILE_KEYS = {
  known: ['services', 'version', 'name'],
  unsupported: UNSUPPORTED.file as Record<string, string>,
};

/** Names of services become host names and parts of task names, so they are host names themselves. */
export function nameProblem(name: string): { message: string; remedy: string } | undefined {
  if (name.length <= 63 && /^[A-Za-z0-9]+([-_]+[A-Za-z0-9]+)*$/.test(name)) return undefined;
  return {
    message: `"${shorten(name)}" cannot be the name of a service`,
    remedy: 'use at most 63 letters, digits, `-` and `_`, with a letter or digit at both ends',
  };
}

/** Words for an issue that zod itself raised. */
export function zodWords(issue: z.core.$ZodIssue, input: unknown): string {
  if (issue.code === 'invalid_type' || issue.code === 'invalid_union') {
    const kinds: Record<string, string> = { object: 'a map', record: 'a map', array: 'a list', string: 'a text' };
    const wanted =
      issue.code === 'invalid_type' ? (kinds[issue.expected] ?? `a ${issue.expected}`) : 'a number or a text';
    return input === undefined ? 'is missing' : `must be ${wanted}, but is ${kindOf(input)}`;
  }
  return shorten(issue.message, 120);
}
