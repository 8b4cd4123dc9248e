import { err, MeshError, ok, type Result } from '../base/errors.ts';
import { closestMatch } from '../manifest/closest-match.ts';
import type { Io } from './io.ts';
import { lines } from './text/lines.ts';

/** Finds an object by name, id or unique id prefix; `kind` names it in the error. */
export function resolveObject<T extends { id: string; name: string }>(
  kind: string,
  objects: readonly T[],
  reference: string,
): Result<T> {
  const exact = objects.find(({ name, id }) => name === reference || id === reference);
  if (exact !== undefined) return ok(exact);
  const [first, second] = reference === '' ? [] : objects.filter(({ id }) => id.startsWith(reference));
  if (first !== undefined && second === undefined) return ok(first);
  if (first !== undefined) {
    return err(
      new MeshError('conflict', `several ${kind}s have an id that starts with ${reference}; use more characters of it`),
    );
  }
  const suggestion = closestMatch(
    reference,
    objects.map(({ name }) => name),
  );
  const hint = suggestion === undefined ? `see \`meshctl ${kind} ls\`` : `did you mean ${suggestion}?`;
  return err(new MeshError('not-found', `there is no ${kind} ${reference}; ${hint}`));
}

/** Each requested object once; those not found are reported on standard error, with exit status 1. */
export function resolveObjects<T extends { id: string; name: string }>(
  io: Io,
  kind: string,
  objects: readonly T[],
  references: readonly string[],
): { found: T[]; status: number } {
  const found = new Set<T>();
  let status = 0;
  for (const reference of references) {
    const resolved = resolveObject(kind, objects, reference);
    if (resolved.ok) found.add(resolved.value);
    else {
      io.err(lines([`meshctl: ${resolved.error.message}`]));
      status = 1;
    }
  }
  return { found: [...found], status };
}
