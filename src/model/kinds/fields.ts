import ipaddr from 'ipaddr.js';

/** Whether a value out of JSON is what a field may hold. */
export type FieldCheck = (value: unknown) => boolean;

/** One check for each field of an object but those all objects have: a field without a check does not compile. */
export type FieldChecks<T> = { readonly [name in Exclude<keyof T, 'kind' | 'netns' | 'foreign'>]-?: FieldCheck };

export const text: FieldCheck = (value) => typeof value === 'string';
/** A whole number, not negative. */
export const number: FieldCheck = (value) => Number.isSafeInteger(value) && (value as number) >= 0;
export const flag: FieldCheck = (value) => typeof value === 'boolean';

export const oneOf =
  (...values: readonly unknown[]): FieldCheck =>
  (value) =>
    values.includes(value);

export const optional =
  (check: FieldCheck): FieldCheck =>
  (value) =>
    value === undefined || check(value);

export const listOf =
  (check: FieldCheck): FieldCheck =>
  (value) =>
    Array.isArray(value) && value.every(check);

export const either =
  (...checks: readonly FieldCheck[]): FieldCheck =>
  (value) =>
    checks.some((check) => check(value));

/** An object with at least these fields. */
export const shape =
  (fields: Readonly<Record<string, FieldCheck>>): FieldCheck =>
  (value) =>
    wrongField(value, fields) === undefined;

export const ipAddress: FieldCheck = (value) => typeof value === 'string' && ipaddr.isValid(value);
/** An address with the length of its prefix. */
export const network: FieldCheck = (value) => typeof value === 'string' && ipaddr.isValidCIDR(value);
export const family = oneOf('inet', 'inet6');

/** The first field that is missing or invalid, '' for a value that is not an object; unknown fields are ignored. */
export function wrongField(value: unknown, fields: Readonly<Record<string, FieldCheck>>): string | undefined {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return '';
  const given = value as Record<string, unknown>;
  return Object.keys(fields).find((name) => !fields[name]!(given[name]));
}
