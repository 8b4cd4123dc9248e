import * as z from 'zod';
import { sameValue } from '../model/equality.ts';
import { isLabelKey } from '../model/label.ts';
import { DEFAULT_UPDATE, type ServiceSpec, type UpdateConfig, type WeightSpec } from '../model/spec.ts';
import { BALANCING_KEYS } from './balancing-schema.ts';
import { UNSUPPORTED } from './compose-keys.ts';
import {
  commandLine,
  constraints,
  count,
  describeValue,
  directory,
  duration,
  environment,
  fail,
  labels,
  oneOf,
  text,
  user,
  withoutExtensions,
} from './fields.ts';
import { composeHealth, HTTP_KEYS, healthcheck, meshHealth, probe } from './health-schema.ts';
import { LIMITS } from './limits.ts';
import { logging, loggingKeys, logOptions } from './logging-schema.ts';
import { shorten } from './manifest-error.ts';
import { longPort, ports } from './port-schema.ts';
import { privilegeKeys, privilegesOf } from './privileges-schema.ts';
import { ready, withReady } from './ready-schema.ts';

const extensible = <T extends z.ZodType>(schema: T) => z.preprocess((value) => withoutExtensions(value), schema);

const restartPolicy = z.strictObject({
  condition: oneOf('any', 'on-failure', 'none').optional(),
  delay: duration.optional(),
  max_attempts: count(1_000_000, 'choose fewer attempts, or leave it out for no limit').optional(),
  window: duration.optional(),
});

const updateConfig = z.strictObject({
  parallelism: count(LIMITS.replicas, `choose at most ${LIMITS.replicas}; 0 replaces all at once`).optional(),
  delay: duration.optional(),
  order: oneOf('start-first', 'stop-first').optional(),
});

const placement = z.strictObject({ constraints: constraints.optional() });

const deploy = z.strictObject({
  mode: oneOf('replicated', 'global').optional(),
  replicas: count(
    LIMITS.replicas,
    `one service has at most ${LIMITS.replicas} tasks: declare several services`,
  ).optional(),
  labels: labels.optional(),
  endpoint_mode: oneOf('vip').optional(), // what the routing mesh implements
  placement: extensible(placement).optional(),
  restart_policy: extensible(restartPolicy).optional(),
  update_config: extensible(updateConfig).optional(),
});

const nodeLabel = text.transform((value, ctx): string => {
  const name = value.replace(/^node\.labels\./i, '');
  if (!isLabelKey(name)) {
    fail(ctx, `"${shorten(value)}" is not a label of a node`, 'write it like `node.labels.cpus`');
  }
  return name;
});

const weightValue = count(65_535, 'choose one of 1-65535').transform((value, ctx): number => {
  if (value === 0) fail(ctx, 'a weight of 0 would exclude the tasks from load balancing', 'choose one of 1-65535');
  return value;
});

const weightMap = z.strictObject({ label: nodeLabel.optional(), default: weightValue.optional() });

/** A number for all tasks, `node.labels.NAME`, or `{label, default}`; undefined is what it is without the key. */
const weight = z.preprocess(
  (value) => {
    if (typeof value === 'number') return { default: value };
    if (typeof value === 'string') return /^-?\d+$/.test(value) ? { default: value } : { label: value };
    return value;
  },
  weightMap.transform(({ label, default: otherwise = 1 }): WeightSpec | undefined =>
    label === undefined && otherwise === 1
      ? undefined
      : { ...(label === undefined ? {} : { label }), default: otherwise },
  ),
);

const mesh = z.strictObject({
  runtime: oneOf('process'),
  healthcheck: probe.optional(),
  weight: weight.optional(),
  ready: ready.optional(),
});

const service = z.strictObject({
  command: commandLine.optional(),
  entrypoint: commandLine.optional(),
  working_dir: directory.optional(),
  user: user.optional(),
  ...privilegeKeys,
  environment: environment.optional(),
  labels: labels.optional(),
  ports: ports.optional(),
  healthcheck: extensible(healthcheck).optional(),
  logging: extensible(logging).optional(),
  stop_grace_period: duration.optional(),
  deploy: extensible(deploy).nullish(),
  'x-mesh': mesh.optional(),
});

/** The top level of a file; `version`, `name` and an empty `networks` are accepted and ignored, as in compose. */
export const file = z.preprocess(
  (value) => dropEmptyNetworks(withoutExtensions(value)),
  z.strictObject({
    version: z.unknown().optional(),
    name: text.optional(),
    services: z.record(z.string(), z.unknown()).optional(),
  }),
);

/** Removes an empty `networks`, which other tools write. */
function dropEmptyNetworks(value: unknown): unknown {
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
      fail(ctx, 'has no runtime; images are not supported yet', remedy);
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
      fail(ctx, '`replicas` is not allowed with mode global', remedy, ['deploy', 'replicas']);
    }
    const restart = deploy?.restart_policy;
    const health = given.healthcheck?.health ?? given['x-mesh']?.healthcheck;
    if (given.healthcheck !== undefined && given['x-mesh']?.healthcheck !== undefined) {
      fail(ctx, 'conflicts with `healthcheck`: a service has at most one', 'remove one of them', [
        'x-mesh',
        'healthcheck',
      ]);
    }
    const privileges = privilegesOf(given, ctx);
    const update = toUpdateConfig(deploy?.update_config);
    const weight = given['x-mesh']?.weight;
    return {
      spec: {
        labels: sorted({ ...given.labels, ...deploy?.labels }),
        runtime: 'process',
        command,
        workingDir: given.working_dir ?? '/',
        ...(given.user === undefined ? {} : { user: given.user }),
        ...privileges,
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
        ports: withReady(
          declared.map(({ port }) => port),
          given['x-mesh']?.ready,
          ctx,
        ),
        ...(update === undefined ? {} : { update }),
        ...(health === undefined ? {} : { health }),
        ...(given.logging === undefined ? {} : { log: given.logging }),
        ...(weight === undefined ? {} : { weight }),
      },
      portEntries: declared.map(({ entry }) => entry),
    };
  }),
);

/** Undefined if every value is the default. */
function toUpdateConfig(fields: z.output<typeof updateConfig> | undefined): UpdateConfig | undefined {
  const update: UpdateConfig = {
    parallelism: fields?.parallelism ?? DEFAULT_UPDATE.parallelism,
    delay: fields?.delay ?? DEFAULT_UPDATE.delay,
    order: fields?.order ?? DEFAULT_UPDATE.order,
  };
  return sameValue(update, DEFAULT_UPDATE) ? undefined : update;
}

function sorted(record: Record<string, string>): Record<string, string> {
  return Object.fromEntries(Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const PORT_MESH = 'ports.*.x-mesh';

/** The keys meshd knows at a place below a service, and the compose keys there that it does not support yet. */
export function keysAt(path: readonly PropertyKey[]): { known: string[]; unsupported: Record<string, string> } {
  const none: Record<string, string> = {};
  const place = path.map((step) => (typeof step === 'number' ? '*' : String(step))).join('.');
  if (place.startsWith(PORT_MESH)) {
    return { known: BALANCING_KEYS[place.slice(PORT_MESH.length + 1)] ?? [], unsupported: none };
  }
  switch (place) {
    case '':
      return { known: Object.keys(service.shape), unsupported: UNSUPPORTED.service };
    case 'deploy':
      return { known: Object.keys(deploy.shape), unsupported: UNSUPPORTED.deploy };
    case 'deploy.placement':
      return { known: Object.keys(placement.shape), unsupported: UNSUPPORTED.placement };
    case 'deploy.restart_policy':
      return { known: Object.keys(restartPolicy.shape), unsupported: none };
    case 'deploy.update_config':
      return { known: Object.keys(updateConfig.shape), unsupported: UNSUPPORTED.update };
    case 'healthcheck':
      return { known: Object.keys(composeHealth.shape), unsupported: none };
    case 'logging':
      return { known: Object.keys(loggingKeys.shape), unsupported: none };
    case 'logging.options':
      return { known: Object.keys(logOptions.shape), unsupported: none };
    case 'ports.*':
      return { known: Object.keys(longPort.shape), unsupported: none };
    case 'x-mesh':
      return { known: Object.keys(mesh.shape), unsupported: none };
    case 'x-mesh.healthcheck':
      return { known: Object.keys(meshHealth.shape), unsupported: none };
    case 'x-mesh.healthcheck.http':
      return { known: HTTP_KEYS, unsupported: none };
    case 'x-mesh.weight':
      return { known: Object.keys(weightMap.shape), unsupported: none };
    default:
      return { known: [], unsupported: none };
  }
}

export const FILE_KEYS = {
  known: ['services', 'version', 'name'],
  unsupported: UNSUPPORTED.file as Record<string, string>,
};

/** Names of services become host names and parts of task names, so they are host names themselves. */
export function serviceNameError(name: string): { message: string; remedy: string } | undefined {
  if (name.length <= 63 && /^[A-Za-z0-9]+([-_]+[A-Za-z0-9]+)*$/.test(name)) return undefined;
  return {
    message: `"${shorten(name)}" cannot be the name of a service`,
    remedy: 'use at most 63 letters, digits, `-` and `_`, with a letter or digit at both ends',
  };
}

/** Message for an issue raised by zod itself. */
export function zodIssueText(issue: z.core.$ZodIssue, input: unknown): string {
  if (issue.code === 'invalid_type' || issue.code === 'invalid_union') {
    const kinds: Record<string, string> = { object: 'a map', record: 'a map', array: 'a list', string: 'a text' };
    const expected =
      issue.code === 'invalid_type' ? (kinds[issue.expected] ?? `a ${issue.expected}`) : 'a number or a text';
    return input === undefined ? 'is missing' : `must be ${expected}, but is ${describeValue(input)}`;
  }
  return shorten(issue.message, 120);
}
