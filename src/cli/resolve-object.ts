import { err, MeshError, ok, type Result } from '../base/errors.ts';
import { closestMatch } from '../manifest/closest-match.ts';
import type { Io } from './io.ts';

/** The object with this name, this id, or the only one whose id starts so; `what` names the kind in the error. */
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
      new MeshError('conflict', `more than one ${kind} has an id that starts with ${reference}; give more of it`),
    );
  }
  const suggestion = closestMatch(
    reference,
    objects.map(({ name }) => name),
  );
  const hint = suggestion === undefined ? `see \`meshctl ${kind} ls\`` : `did you mean ${suggestion}?`;
  return err(new MeshError('not-found', `there is no ${kind} ${reference}; ${hint}`));
}

/** Each wanted object once; what is not found is told on standard error and makes the exit status 1. */
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
      io.err(`meshctl: ${resolved.error.message}\n`);
      status = 1;
    }
  }
  return { found: [...found], status };
}
