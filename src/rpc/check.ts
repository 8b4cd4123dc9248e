import ipaddr from 'ipaddr.js';
import { MeshError } from '../base/errors.ts';
import type { Cidr, Family, IpAddress, MacAddress } from '../model/address.ts';
import { isLabelKey } from '../model/label.ts';
import { LIMIT, NAME_PATTERN } from '../model/limits.ts';

/** Checks of values that came over the network. `where` is the path to the value, for the message. */

export function invalid(where: string, problem: string): MeshError {
  return new MeshError('invalid', `${where}: ${problem}`);
}

/** At most `limit` bytes, without NUL. */
export function text(value: string, where: string, limit: number): string {
  if (Buffer.byteLength(value) > limit) throw invalid(where, `is longer than ${limit} bytes`);
  if (value.includes('\0')) throw invalid(where, 'holds a NUL character');
  return value;
}

export function name(value: string, where: string): string {
  if (value === '') throw invalid(where, 'is empty');
  if (value.length > LIMIT.name) throw invalid(where, `is longer than ${LIMIT.name} characters`);
  if (!NAME_PATTERN.test(value))
    throw invalid(
      where,
      `${JSON.stringify(value)} may only hold letters, digits, '.', '_' and '-', and starts with a letter or digit`,
    );
  return value;
}

/** Ids we hand out: short, of letters and digits. */
export function id(value: string, where: string): string {
  if (!/^[A-Za-z0-9_-]{1,64}$/.test(value)) throw invalid(where, 'is not an id');
  return value;
}

export function word<const W extends string>(value: string, where: string, words: readonly W[]): W {
  const found = words.find((known) => known === value);
  if (found === undefined)
    throw invalid(where, `${JSON.stringify(value.slice(0, 64))} is not one of ${words.join(', ')}`);
  return found;
}

export function integer(value: number, where: string, from: number, to: number): number {
  if (!Number.isSafeInteger(value) || value < from || value > to)
    throw invalid(where, `${value} is not between ${from} and ${to}`);
  return value;
}

export function port(value: number, where: string): number {
  return integer(value, where, 1, 65_535);
}

export function list<In, Out>(
  values: readonly In[],
  where: string,
  limit: number,
  each: (value: In, where: string) => Out,
): Out[] {
  if (values.length > limit) throw invalid(where, `has ${values.length} entries, more than ${limit}`);
  return values.map((value, index) => each(value, `${where}[${index}]`));
}

/** Keys and values of a map; `__proto__` is refused because it is no ordinary key in JavaScript. */
export function record(
  values: Record<string, string>,
  where: string,
  key: (value: string, where: string) => string,
  valueLimit: number,
): Record<string, string> {
  const entries = Object.entries(values);
  if (entries.length > LIMIT.entries) throw invalid(where, `has ${entries.length} entries, more than ${LIMIT.entries}`);
  const checked: Record<string, string> = {};
  for (const [entryKey, value] of entries) {
    key(entryKey, where);
    if (entryKey === '__proto__') throw invalid(where, 'holds the key __proto__');
    checked[entryKey] = text(value, `${where}.${entryKey}`, valueLimit);
  }
  return checked;
}

export function labelKey(value: string, where: string): string {
  if (!isLabelKey(value)) throw invalid(where, `${JSON.stringify(value.slice(0, 64))} is not a label key`);
  return value;
}

export function environmentKey(value: string, where: string): string {
  if (value === '' || value.includes('='))
    throw invalid(where, `${JSON.stringify(value.slice(0, 64))} is not the name of a variable`);
  return text(value, where, LIMIT.value);
}

/** An address in canonical form; other spellings are refused so that texts can be compared. */
export function address(value: string, where: string): IpAddress {
  if (canonical(value) !== value)
    throw invalid(where, `${JSON.stringify(value.slice(0, 64))} is not an IP address in canonical form`);
  return value;
}

/** A network with its host bits zero, of `family` when given. */
export function cidr(value: string, where: string, family?: Family): Cidr {
  const [base = '', prefix = '', ...rest] = value.split('/');
  const bits = base.includes(':') ? 128 : 32;
  const length = /^\d{1,3}$/.test(prefix) ? Number(prefix) : -1;
  const good =
    rest.length === 0 && canonical(base) === base && length >= 0 && length <= bits && String(length) === prefix;
  if (!good || !hostBitsZero(base, length))
    throw invalid(where, `${JSON.stringify(value.slice(0, 64))} is not a network such as 10.0.0.0/24`);
  if (family !== undefined && (family === 'inet6') !== (bits === 128))
    throw invalid(where, `${value} is not of family ${family}`);
  return value;
}

export function mac(value: string, where: string): MacAddress {
  if (!/^[0-9a-f]{2}(:[0-9a-f]{2}){5}$/.test(value)) throw invalid(where, 'is not a MAC address');
  return value;
}

/** ipaddr.js takes octal and short forms as valid IPv4; only the four-part decimal form is meant here. */
function canonical(value: string): string | undefined {
  if (value.length > 45 || value.includes('%')) return undefined;
  if (!value.includes(':'))
    return ipaddr.IPv4.isValidFourPartDecimal(value) ? ipaddr.IPv4.parse(value).toString() : undefined;
  return ipaddr.IPv6.isValid(value) ? ipaddr.IPv6.parse(value).toRFC5952String() : undefined;
}

function hostBitsZero(base: string, length: number): boolean {
  const bytes = ipaddr.parse(base).toByteArray();
  return bytes.every((byte, index) => (byte & (0xff >> Math.max(0, Math.min(8, length - index * 8)))) === 0);
}

/** A CIDR of either family. */
export function network(value: string, where: string): Cidr {
  return cidr(value, where, value.includes(':') ? 'inet6' : 'inet');
}
