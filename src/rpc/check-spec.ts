import * as z from 'zod';
import { CAPABILITY_NAMES } from '../model/capabilities.ts';
import { LIMIT } from '../model/limits.ts';
import {
  type HealthCheck,
  type LogLimits,
  type PortSpec,
  SCHEDULER_FLAGS,
  SCHEDULERS,
  type ServiceSpec,
  TRAFFIC_POLICIES,
} from '../model/spec.ts';
import {
  cidr,
  command,
  directory,
  duration,
  environment,
  flag,
  integer,
  labels,
  list,
  name,
  port,
  text,
  user,
  word,
} from './check-values.ts';

/* What people declare. The schemas are typed by the model: a field that is added there and not here does not compile. */

export const protocol = word(['tcp', 'udp', 'sctp']);
export const portMode = word(['ingress', 'host']);

const constraint = z.object({
  key: text(LIMIT.value),
  operator: word(['==', '!=']),
  value: text(LIMIT.value),
});

/** What a declared and an assigned port have in common. */
export const balancing = {
  schedulerFlags: list(word(SCHEDULER_FLAGS), SCHEDULER_FLAGS.length).exactOptional(),
  persistence: z
    .object({
      timeout: integer(1_000, LIMIT.duration),
      prefix: z.object({ inet: integer(1, 32), inet6: integer(1, 128) }),
    })
    .exactOptional(),
  idleTimeout: integer(1_000, LIMIT.duration).exactOptional(),
  policy: word(TRAFFIC_POLICIES).exactOptional(),
  addresses: list(cidr(), LIMIT.cidrs).exactOptional(),
  allowFrom: list(cidr(), LIMIT.cidrs).exactOptional(),
};

export const portSpec: z.ZodType<PortSpec> = z.object({
  protocol,
  target: port,
  published: port.exactOptional(),
  mode: portMode,
  ready: z.literal(false).exactOptional(),
  scheduler: word(SCHEDULERS).exactOptional(),
  fallback: word(SCHEDULERS).exactOptional(),
  ...balancing,
  nodes: list(constraint, LIMIT.constraints).exactOptional(),
});

const notEmpty = { error: 'is empty' };

export const healthCheck: z.ZodType<HealthCheck> = z.object({
  probe: z.discriminatedUnion(
    'kind',
    [
      z.object({
        kind: z.literal('command'),
        command: command.refine(([first = '']) => first !== '', notEmpty),
      }),
      z.object({ kind: z.literal('shell'), command: text(LIMIT.argument).refine((value) => value !== '', notEmpty) }),
      z.object({ kind: z.literal('tcp'), port }),
      z.object({
        kind: z.literal('http'),
        port,
        path: text(LIMIT.argument).refine((path) => /^\/[\x21-\x7e]*$/.test(path), {
          error: 'is not the path of a URL',
        }),
      }),
    ],
    { error: 'is not one of command, shell, tcp, http' },
  ),
  interval: integer(1, LIMIT.duration),
  timeout: integer(1, LIMIT.duration),
  retries: integer(1, 1_000_000),
  startPeriod: duration,
  startInterval: integer(1, LIMIT.duration),
});

export const logLimits: z.ZodType<LogLimits> = z.object({
  maxSize: integer(LIMIT.logSize.min, LIMIT.logSize.max),
  maxFiles: integer(1, LIMIT.logFiles),
});

/** What a task may do beyond the default. */
export const privileges = {
  capAdd: list(word(CAPABILITY_NAMES), CAPABILITY_NAMES.length).exactOptional(),
  capDrop: list(word(CAPABILITY_NAMES), CAPABILITY_NAMES.length).exactOptional(),
  privileged: flag.exactOptional(),
};

export const serviceSpec: z.ZodType<ServiceSpec> = z.object({
  name,
  labels,
  runtime: word(['process']),
  command: command.refine(({ length }) => length > 0, { error: 'is empty: specify what to run' }),
  workingDir: directory,
  user: user.exactOptional(),
  ...privileges,
  environment,
  mode: word(['replicated', 'global']),
  replicas: integer(0, LIMIT.replicas),
  constraints: list(constraint, LIMIT.constraints),
  restart: z.object(
    {
      condition: word(['any', 'on-failure', 'none']),
      delay: duration.exactOptional(),
      maxAttempts: integer(0, 0xffffffff),
      window: duration,
    },
    { error: 'is missing' },
  ),
  stopGracePeriod: duration,
  ports: list(portSpec, LIMIT.ports),
  update: z
    .object({
      parallelism: integer(0, LIMIT.replicas),
      delay: duration,
      order: word(['start-first', 'stop-first']),
    })
    .exactOptional(),
  health: healthCheck.exactOptional(),
  log: logLimits.exactOptional(),
  weight: z.object({ label: text(LIMIT.value).exactOptional(), default: integer(1, 65_535) }).exactOptional(),
  forced: integer(0, 0xffffffff).exactOptional(),
});
