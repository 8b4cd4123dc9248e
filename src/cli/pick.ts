import { err, MeshError, ok, type Result } from '../base/errors.ts';
import { nearest } from '../manifest/nearest.ts';
import type { Io } from './io.ts';

/** The object with this name, this id, or the only one whose id starts so; `what` names the kind in the error. */
export function pick<T extends { id: string; name: string }>(
  what: string,
  objects: readonly T[],
  wanted: string,
): Result<T> {
  const exact = objects.find(({ name, id }) => name === wanted || id === wanted);
  if (exact !== undefined) return ok(exact);
  const [first, second] = wanted === '' ? [] : objects.filter(({ id }) => id.startsWith(wanted));
  if (first !== undefined && second === undefined) return ok(first);
  if (first !== undefined) {
    return err(
      new MeshError('conflict', `more than one ${what} has an id that starts with ${wanted}; give more of it`),
    );
  }
  const near = nearest(
    wanted,
    objects.map(({ name }) => name),
  );
  const hint = near === undefined ? `see \`meshctl ${what} ls\`` : `did you mean ${near}?`;
  return err(new MeshError('not-found', `there is no ${what} ${wanted}; ${hint}`));
}

/** Each wanted object once; what is not found is told on standard error and makes the exit status 1. */
export function pickAll<T extends { id: string; name: string }>(
  io: Io,
  what: string,
  objects: readonly T[],
  wanted: readonly string[],
): { found: T[]; status: number } {
  const found = new Set<T>();
  let status = 0;
  for (const word of wanted) {
    const picked = pick(what, objects, word);
    if (picked.ok) found.add(picked.value);
    else {
      io.err(`meshctl: ${picked.error.message}\n`);
      status = 1;
    }
  }
  return { found: [...found], status };
}
