import type { Stored } from '../../model/cluster.ts';
import type { Collection, Write } from '../../store/store.ts';

/**
 * Runs one read-decide-write sequence at a time, so that what a decision was based on still holds when it is committed.
 * Rules that span objects (one owner per port, address and name) depend on it.
 */
export interface Writer {
  run<T>(work: () => Promise<T>): Promise<T>;
  /** Resolves when everything passed to `run` so far has ended. */
  idle(): Promise<void>;
}

export function createWriter(): Writer {
  let last: Promise<unknown> = Promise.resolve();
  return {
    run(work) {
      const result = last.then(work);
      last = result.catch(() => {});
      return result;
    },
    idle: async () => {
      await last;
    },
  };
}

/** A put as the store accepts it. */
export function put<T extends Stored>(collection: Collection, object: T): Write {
  return { put: collection, object: object as T & Record<string, unknown> };
}

export function remove(collection: Collection, object: Stored): Write {
  return { remove: collection, id: object.id, version: object.version };
}
