import ipaddr from 'ipaddr.js';
import * as z from 'zod';
import type { Family } from '../model/address.ts';
import { isLabelKey } from '../model/label.ts';
import { LIMIT, NAME_PATTERN } from '../model/limits.ts';

/*
 * Schemas of single values: every text, number and list from outside is bounded. Messages follow the path of the field,
 * as in `ports[0].target: 0 is not between 1 and 65535`.
 */

/** A text whose whole check is one function, which returns what is wrong: an assignment has very many of them. */
function tested(problem: (value: string) => string | undefined): z.ZodType<string> {
  return z.custom<string>((value) => typeof value === 'string' && problem(value) === undefined, {
    error: ({ input }) => (typeof input === 'string' ? problem(input) : missing({ input })),
  });
}

const quoted = (value: string) => JSON.stringify(value.slice(0, 64));
const missing = ({ input }: { input?: unknown }) => (input === undefined ? 'is missing' : 'is of the wrong type');

function matching(pattern: RegExp, problem: string): z.ZodType<string> {
  return tested((value) => (pattern.test(value) ? undefined : problem));
}

/** At most `limit` bytes, without NUL. */
export function text(limit: number): z.ZodType<string> {
  return tested((value) => {
    if (Buffer.byteLength(value) > limit) return `is longer than ${limit} bytes`;
    return value.includes('\0') ? 'contains a NUL character' : undefined;
  });
}

export const name = tested((value) => {
  if (value === '') return 'is empty';
  if (value.length > LIMIT.name) return `is longer than ${LIMIT.name} characters`;
  if (NAME_PATTERN.test(value)) return undefined;
  return `${quoted(value)} may only contain letters, digits, '.', '_' and '-', and starts with a letter or digit`;
});

/** Ids made by a manager: short, of letters and digits. */
export const id = matching(/^[A-Za-z0-9_-]{1,64}$/, 'is not an id');

/** One of the words of an enum. */
export function word<const W extends string>(words: readonly W[]): z.ZodType<W> {
  const known: ReadonlySet<string> = new Set(words);
  return z.custom<W>((value) => known.has(value as string), {
    error: ({ input }) =>
      input === undefined || input === 'unspecified'
        ? `is missing: expected one of ${words.join(', ')}`
        : `${quoted(String(input))} is not one of ${words.join(', ')}`,
  });
}

export function integer(from: number, to: number): z.ZodType<number> {
  return z.custom<number>(
    (value) => Number.isSafeInteger(value) && (value as number) >= from && (value as number) <= to,
    {
      error: ({ input }) => (input === undefined ? 'is missing' : `${input} is not between ${from} and ${to}`),
    },
  );
}

export const port = integer(1, 65_535);
/** Revisions and versions; beyond 2^53 a number is not exact. */
export const count = integer(0, Number.MAX_SAFE_INTEGER);
/** Milliseconds since 1970, in the range of a Date. */
export const time = integer(0, 8.64e15);
export const duration = integer(0, LIMIT.duration);
export const flag = z.boolean({ error: missing });
export const bytes = z.instanceof(Uint8Array) as z.ZodType<Uint8Array>;

export function list<T>(item: z.ZodType<T>, limit: number): z.ZodType<T[]> {
  return z.array(item, { error: missing }).max(limit, {
    error: ({ input }) => `has ${(input as unknown[]).length} entries, more than ${limit}`,
  });
}

/** Entries of a map: `problem` judges its keys, `limit` bounds its values in bytes. */
function map(problem: (key: string) => string | undefined, limit: number): z.ZodType<Record<string, string>> {
  const value = text(limit);
  return z
    .custom<Record<string, string>>((given) => typeof given === 'object' && given !== null)
    .superRefine((entries, context) => {
      const issue = (message: string, path: string[] = []) => context.addIssue({ code: 'custom', message, path });
      const keys = Object.keys(entries);
      if (keys.length > LIMIT.entries) issue(`has ${keys.length} entries, more than ${LIMIT.entries}`);
      for (const key of keys) {
        // No ordinary key in JavaScript.
        const wrong = key === '__proto__' ? 'contains the key __proto__' : problem(key);
        if (wrong !== undefined) issue(wrong);
        const checked = value.safeParse(entries[key]);
        if (!checked.success) issue(checked.error.issues[0]!.message, [key]);
      }
    });
}

const labelProblem = (key: string) => (isLabelKey(key) ? undefined : `${quoted(key)} is not a label key`);
export const labelKey = tested(labelProblem);
export const labels = map(labelProblem, LIMIT.value);

export const environment = map((key) => {
  if (key === '' || key.includes('=')) return `${quoted(key)} is not the name of a variable`;
  return Buffer.byteLength(key) > LIMIT.value || key.includes('\0')
    ? `${quoted(key)} is too long or has a NUL`
    : undefined;
}, LIMIT.argument);

export const command = list(text(LIMIT.argument), LIMIT.arguments);
export const directory = tested((value) => {
  if (!value.startsWith('/')) return 'is not an absolute path';
  return value.length > 4_095 || value.includes('\0') ? 'is too long or contains a NUL character' : undefined;
});
export const user = text(LIMIT.value).refine((value) => value !== '', { error: 'is empty' });

/** An address in canonical form; other spellings are refused so that texts can be compared. */
export const address = tested((value) =>
  isCanonical(value) ? undefined : `${quoted(value)} is not an IP address in canonical form`,
);

/** A network with its host bits zero, of `family` when given. */
export function cidr(family?: Family): z.ZodType<string> {
  return tested((value) => {
    const [base = '', prefix = '', ...rest] = value.split('/');
    const bits = base.includes(':') ? 128 : 32;
    const length = /^(0|[1-9]\d{0,2})$/.test(prefix) ? Number(prefix) : -1;
    const good = rest.length === 0 && length >= 0 && length <= bits && isCanonical(base) && hostBitsZero(base, length);
    if (!good) return `${quoted(value)} is not a network such as 10.0.0.0/24`;
    return family === undefined || (family === 'inet6') === (bits === 128)
      ? undefined
      : `${value} is not of family ${family}`;
  });
}

export const mac = matching(/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/, 'is not a MAC address');

const IPV4 = /^(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)(\.(25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)){3}$/;

function isCanonical(value: string): boolean {
  if (!value.includes(':')) return IPV4.test(value);
  if (value.length > 45 || value.includes('%')) return false;
  return ipaddr.IPv6.isValid(value) && ipaddr.IPv6.parse(value).toRFC5952String() === value;
}

function hostBitsZero(base: string, length: number): boolean {
  const bytes = ipaddr.parse(base).toByteArray();
  return bytes.every((byte, index) => (byte & (0xff >> Math.max(0, Math.min(8, length - index * 8)))) === 0);
}
