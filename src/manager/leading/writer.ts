import type { Stored } from '../../model/cluster.ts';
import type { Collection, Write } from '../../store/store.ts';

/**
 * One at a time: whoever reads the cluster, decides and writes does so alone, so that what a decision was based on
 * still holds when it is committed. Rules that span objects (one owner of a port, of an address, of a name) rest on it.
 */
export interface Writer {
  run<T>(work: () => Promise<T>): Promise<T>;
  /** Resolves when all that was handed in so far is done. */
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

/** A put as the store takes it. */
export function put<T extends Stored>(collection: Collection, object: T): Write {
  return { put: collection, object: object as T & Record<string, unknown> };
}

export function remove(collection: Collection, object: Stored): Write {
  return { remove: collection, id: object.id, version: object.version };
}
