import type { z } from 'zod';
import { MeshError } from '../base/errors.ts';

/** A value from outside, checked against its schema; throws MeshError `invalid` that names the field as mesh.proto does. */
export function check<T>(schema: z.ZodType<T>, value: unknown, where: string): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { path, message } = result.error.issues[0]!;
  throw new MeshError('invalid', `${pathText(where, path)}: ${message}`);
}

/** `['ports', 0, 'idleTimeout']` → `ports[0].idle_timeout` */
function pathText(where: string, path: readonly PropertyKey[]): string {
  let text = where;
  for (const key of path) {
    if (typeof key === 'number') text += `[${key}]`;
    else text += `${text === '' ? '' : '.'}${String(key).replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}`;
  }
  return text;
}
