import * as z from 'zod';
import { LABEL_KEY_PATTERN } from '../model/label.ts';
import type { Constraint } from '../model/spec.ts';
import { formatDuration, parseDuration } from './duration.ts';
import { LIMITS } from './limits.ts';
import { shorten } from './manifest-error.ts';
import { splitShellWords } from './shell-words.ts';

type Context = z.core.$RefinementCtx;

/** Reports a problem with a remedy at the current place, or below it. */
export function fail(ctx: Context, message: string, remedy: string, path: (string | number)[] = []): void {
  ctx.addIssue({ code: 'custom', message, params: { remedy }, path });
}

/** Describes a value in terms of YAML. */
export function describeValue(value: unknown): string {
  if (value === null || value === undefined) return 'empty';
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  return typeof value === 'string'
    ? `the text "${shorten(value, 40)}"`
    : `the ${typeof value} ${shorten(String(value), 40)}`;
}

/** Text that becomes part of a process: no NUL, and short enough for execve. */
export function checkProcessText(ctx: Context, text: string, path: (string | number)[] = []): boolean {
  if (text.includes('\0'))
    fail(ctx, 'contains a NUL character', 'remove it: arguments of a process cannot contain it', path);
  else if (Buffer.byteLength(text) > LIMITS.argument) {
    fail(ctx, `is longer than ${LIMITS.argument} bytes`, 'put it in a file: the kernel rejects longer arguments', path);
  } else return true;
  return false;
}

export const text = z.unknown().transform((value, ctx): string => {
  if (typeof value === 'string' && value !== '') {
    checkProcessText(ctx, value);
    return value;
  }
  fail(ctx, `must be text, but is ${value === '' ? 'empty' : describeValue(value)}`, 'write text, or remove the key');
  return '';
});

export const directory = text.transform((value, ctx): string => {
  if (!value.startsWith('/')) fail(ctx, `"${shorten(value)}" is not an absolute path`, 'start it with `/`');
  return value;
});

/** `name`, `uid`, `name:group` or `uid:gid`. */
export const user = text.transform((value, ctx): string => {
  if (!/^[A-Za-z0-9_][A-Za-z0-9_.-]*\$?(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?$/.test(value)) {
    fail(ctx, `"${shorten(value)}" is not a user`, 'write a name or a number, such as `user: "1000:1000"`');
  }
  return value;
});

/** A list of arguments, or a text that is split like a shell does. */
export const commandLine = z.unknown().transform((value, ctx): string[] => {
  if (typeof value === 'string') {
    const words = splitShellWords(value);
    if (words.ok && words.value.every((word) => checkProcessText(ctx, word))) return words.value;
    if (!words.ok) fail(ctx, words.error, 'close the quotes, or write a list: `command: [sleep, "60"]`');
    return [];
  }
  if (!Array.isArray(value)) {
    fail(ctx, `must be text or a list, but is ${describeValue(value)}`, 'write it like `command: [sleep, "60"]`');
    return [];
  }
  return value.map((word, index) => {
    if (typeof word !== 'string') fail(ctx, `must be text, but is ${describeValue(word)}`, 'put it in quotes', [index]);
    else checkProcessText(ctx, word, [index]);
    return String(word);
  });
});

const KEY_PATTERNS = { environment: /^[^=]{1,1024}$/, labels: LABEL_KEY_PATTERN };

/** A map, or a list of `KEY=value`; keys are sorted, because their order has no effect. */
function pairs(what: 'environment' | 'labels') {
  return z.unknown().transform((value, ctx): Record<string, string> => {
    const found = new Map<string, string>();
    const add = (key: string, entry: unknown, path: (string | number)[]): void => {
      if (entry === null || entry === undefined) {
        if (what === 'labels') found.set(key, '');
        else {
          const name = shorten(key);
          const there = typeof path[0] === 'number' ? `${name}=\${${name}}` : `${name}: \${${name}}`;
          const remedy = `set a value, or write \`${there}\` to use the value from the environment of meshctl`;
          fail(ctx, `has no value; meshctl does not pass on its own environment`, remedy, path);
        }
        return;
      }
      if (typeof entry !== 'string') fail(ctx, `must be text, but is ${describeValue(entry)}`, 'write text', path);
      else if (!KEY_PATTERNS[what].test(key)) {
        fail(ctx, `"${shorten(key)}" is not a valid name`, `write it like \`${what}: {KEY: value}\``, path);
      } else if (what === 'labels' && Buffer.byteLength(entry) > LIMITS.value) {
        fail(ctx, `is longer than ${LIMITS.value} bytes`, 'labels are short: store the text elsewhere', path);
      } else if (key === '__proto__') fail(ctx, 'the name `__proto__` is not allowed', 'choose another name', path);
      else if (found.has(key)) fail(ctx, `${shorten(key)} is declared twice`, 'remove one of them', path);
      else if (checkProcessText(ctx, `${key}=${entry}`, path)) found.set(key, entry);
    };
    if (Array.isArray(value)) {
      for (const [index, item] of value.entries()) {
        const equals = typeof item === 'string' ? item.indexOf('=') : -1;
        if (typeof item !== 'string')
          fail(ctx, `must be "KEY=value", but is ${describeValue(item)}`, 'write "KEY=value"', [index]);
        else if (equals < 0) add(item, null, [index]);
        else add(item.slice(0, equals), item.slice(equals + 1), [index]);
      }
    } else if (typeof value === 'object' && value !== null) {
      for (const [key, entry] of Object.entries(value)) add(key, entry, [key]);
    } else {
      fail(ctx, `must be a map or a list, but is ${describeValue(value)}`, `write it like \`${what}: {KEY: value}\``);
    }
    if (found.size > LIMITS.entries) fail(ctx, `has more than ${LIMITS.entries} entries`, 'put them in a file');
    return Object.fromEntries([...found].sort(([a], [b]) => (a < b ? -1 : 1)));
  });
}

export const environment = pairs('environment');
export const labels = pairs('labels');

/** A whole number, or a text of digits as a variable leaves it. */
export function count(maximum: number, why: string) {
  return z.unknown().transform((value, ctx): number => {
    const number = typeof value === 'string' && /^-?\d{1,15}$/.test(value) ? Number(value) : value;
    if (typeof number !== 'number' || !Number.isInteger(number)) {
      fail(ctx, `must be a whole number, but is ${describeValue(value)}`, `choose one of 0-${maximum}`);
      return 0;
    }
    if (number < 0 || number > maximum) {
      fail(ctx, `${number} is outside 0-${maximum}`, number < 0 ? `choose one of 0-${maximum}` : why);
      return 0;
    }
    return number;
  });
}

/** `true` or `false`, also as text: the value of a variable. */
export const flag = z.unknown().transform((value, ctx): boolean => {
  if (value === true || value === 'true') return true;
  if (value !== false && value !== 'false')
    fail(ctx, `must be true or false, but is ${describeValue(value)}`, 'write true or false');
  return false;
});

/** Milliseconds. */
export const duration = z.unknown().transform((value, ctx): number => {
  const milliseconds = typeof value === 'string' ? parseDuration(value) : value === 0 ? 0 : undefined;
  if (milliseconds === undefined) {
    fail(
      ctx,
      `must be a duration, but is ${describeValue(value)}`,
      'write a number with a unit (ms, s, m, h), such as 10s or 1m30s',
    );
    return 0;
  }
  if (milliseconds > LIMITS.duration) {
    fail(ctx, `${shorten(String(value))} is too long`, `choose at most ${formatDuration(LIMITS.duration)}`);
    return 0;
  }
  return milliseconds;
});

export function oneOf<const T extends string>(...choices: T[]) {
  return z.unknown().transform((value, ctx): T => {
    const choice = choices.find((candidate) => candidate === value);
    if (choice === undefined) {
      const which = choices.length === 1 ? choices[0] : `one of ${choices.join(', ')}`;
      fail(ctx, `must be ${which}, but is ${describeValue(value)}`, `write ${choices.join(' or ')}`);
    }
    return choice ?? choices[0]!;
  });
}

/** `node.hostname == node1`; keys in the case of Swarm's documentation, label names as written. */
const constraint = z.unknown().transform((value, ctx): Constraint => {
  const nothing: Constraint = { key: '', operator: '==', value: '' };
  const form = 'write it like "node.hostname == node1" or "node.labels.zone != a"';
  const match =
    typeof value === 'string' && value.length <= 512
      ? /^\s*([^\s=!]+)\s*(==|!=)\s*(\S(?:.*\S)?)\s*$/.exec(value)
      : null;
  if (match === null) {
    fail(ctx, `${typeof value === 'string' ? `"${shorten(value)}"` : describeValue(value)} is not a constraint`, form);
    return nothing;
  }
  const [, written, operator, expected] = match;
  const label = /^node\.labels\.([\w][\w.\-/]*)$/i.exec(written!)?.[1];
  const key = label === undefined ? written!.toLowerCase() : `node.labels.${label}`;
  if (label === undefined && !['node.id', 'node.hostname', 'node.role'].includes(key)) {
    fail(
      ctx,
      `"${shorten(written!)}" is not a constraint key`,
      'use node.hostname, node.labels.NAME, node.role or node.id',
    );
    return nothing;
  }
  if (key === 'node.role' && !/^(manager|worker)$/i.test(expected!)) {
    fail(ctx, `"${shorten(expected!)}" is not a role`, 'use manager or worker');
  }
  return { key, operator: operator as '==' | '!=', value: expected! };
});

export const constraints = z.array(constraint).transform((list, ctx) => {
  if (list.length > LIMITS.constraints)
    fail(ctx, `has more than ${LIMITS.constraints} constraints`, 'use a node label instead');
  return list;
});

/** A map without its `x-` keys, which are extensions; `keep` lists the ones that meshd defines. */
export function withoutExtensions(value: unknown, keep: readonly string[] = []): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return value;
  return Object.fromEntries(Object.entries(value).filter(([key]) => !key.startsWith('x-') || keep.includes(key)));
}
