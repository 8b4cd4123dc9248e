import * as z from 'zod';
import type { HealthCheck, HealthProbe } from '../model/spec.ts';
import { checkProcessText, count, describeValue, duration, fail, flag } from './fields.ts';
import { LIMITS } from './limits.ts';
import { shorten } from './manifest-error.ts';

const TEST_SYNTAX =
  'write `test: curl -f http://127.0.0.1/` for a shell, `test: [CMD, curl, -f, http://127.0.0.1/]` without one';

/** `undefined` is `[NONE]`: no healthcheck. */
const test = z.unknown().transform((value, ctx): HealthProbe | undefined => {
  const shell = (command: string, path: number[]): HealthProbe => {
    if (command.trim() === '') fail(ctx, 'has no command', TEST_SYNTAX, path);
    else checkProcessText(ctx, command, path);
    return { kind: 'shell', command };
  };
  if (typeof value === 'string') return shell(value, []);
  if (!Array.isArray(value) || value.length === 0) {
    fail(ctx, `must be text or a list, but is ${Array.isArray(value) ? 'empty' : describeValue(value)}`, TEST_SYNTAX);
    return undefined;
  }
  for (const [index, word] of value.entries()) {
    if (typeof word !== 'string') fail(ctx, `must be text, but is ${describeValue(word)}`, 'put it in quotes', [index]);
    else checkProcessText(ctx, word, [index]);
  }
  if (!value.every((word) => typeof word === 'string')) return undefined;
  const [form, ...words] = value as [string, ...string[]];
  switch (form) {
    case 'NONE':
      if (words.length > 0) fail(ctx, 'NONE does not accept a command', 'write `test: [NONE]`', [1]);
      return undefined;
    case 'CMD-SHELL':
      if (words.length !== 1) {
        fail(
          ctx,
          `CMD-SHELL requires exactly one text, not ${words.length}`,
          'write `test: [CMD-SHELL, "curl -f … || exit 1"]`',
        );
      }
      return shell(words[0] ?? '-', [1]);
    case 'CMD':
      if (words.length === 0 || words[0] === '') fail(ctx, 'CMD has no command', TEST_SYNTAX);
      else if (words.length > LIMITS.arguments) {
        fail(ctx, `the command has more than ${LIMITS.arguments} arguments`, 'put them in a file');
      }
      return { kind: 'command', command: words };
    default:
      fail(ctx, `a list starts with CMD, CMD-SHELL or NONE, but this one with "${shorten(form)}"`, TEST_SYNTAX, [0]);
      return undefined;
  }
});

const timingFields = {
  interval: duration.optional(),
  timeout: duration.optional(),
  retries: count(1_000_000, 'choose fewer').optional(),
  start_period: duration.optional(),
  start_interval: duration.optional(),
};

/** Docker's defaults; 0 stands for the default there too. */
function toTimings(fields: { [name in keyof typeof timingFields]?: number | undefined }): Omit<HealthCheck, 'probe'> {
  return {
    interval: fields.interval || 30_000,
    timeout: fields.timeout || 30_000,
    retries: fields.retries || 3,
    startPeriod: fields.start_period ?? 0,
    startInterval: fields.start_interval || 5_000,
  };
}

export const composeHealth = z.strictObject({ test: test.optional(), disable: flag.optional(), ...timingFields });

/** The compose key; no `health` means that the health check is disabled. */
export const healthcheck = composeHealth.transform((given, ctx): { health?: HealthCheck } => {
  const { test: probe, disable = false } = given;
  if (ctx.issues.length > 0) return {}; // a misspelled key already explains a missing test
  const isDisabled = Object.hasOwn(given, 'test') && probe === undefined;
  if (disable && probe !== undefined) {
    fail(ctx, '`disable` and `test` contradict each other', 'remove one of them', ['disable']);
  } else if (!disable && !isDisabled && probe === undefined) {
    fail(ctx, 'has no test', `${TEST_SYNTAX}; for a probe without a program use \`x-mesh.healthcheck\``);
  }
  return probe === undefined ? {} : { health: { probe, ...toTimings(given) } };
});

const probePort = count(65_535, 'choose one of 1-65535').transform((port, ctx): number => {
  if (port === 0) fail(ctx, 'port 0 is outside 1-65535', 'use a port inside the task');
  return port;
});

const path = z.unknown().transform((value, ctx): string => {
  if (typeof value === 'string' && /^\/[\x21-\x7e]*$/.test(value) && value.length <= LIMITS.value) return value;
  fail(ctx, `must be the path of a URL, but is ${describeValue(value)}`, 'start it with `/`; blanks are written %20');
  return '/';
});

const http = z.strictObject({ port: probePort, path: path.optional() });

export const meshHealth = z.strictObject({ tcp: probePort.optional(), http: http.optional(), ...timingFields });

/** `x-mesh.healthcheck`: probes meshd makes itself, inside the task's network namespace. */
export const probe = meshHealth.transform((given, ctx): HealthCheck => {
  const { tcp, http } = given;
  if (ctx.issues.length === 0 && (tcp === undefined) === (http === undefined)) {
    const what = tcp === undefined ? 'has neither tcp nor http' : 'has both tcp and http';
    fail(ctx, what, 'write `healthcheck: {tcp: 80}` or `healthcheck: {http: {port: 80, path: /health}}`');
  }
  const probe: HealthProbe =
    http === undefined ? { kind: 'tcp', port: tcp ?? 1 } : { kind: 'http', port: http.port, path: http.path ?? '/' };
  return { probe, ...toTimings(given) };
});

export const HTTP_KEYS = Object.keys(http.shape);
