import type { Stored } from '../model/cluster.ts';

/** Kinds of objects, each with ids of its own. */
export type Collection = 'services' | 'generations' | 'tasks' | 'nodes' | 'networks' | 'cluster';

/** One write of a transaction; `version` is the one the writer read (0 = must not exist yet). */
export type Write =
  | { put: Collection; object: Stored & Record<string, unknown> }
  | { remove: Collection; id: string; version: number };

export interface Change {
  revision: number;
  collection: Collection;
  id: string;
  /** Undefined when it did not exist before. */
  before: Stored | undefined;
  /** Undefined when it was removed. */
  after: Stored | undefined;
}

/**
 * Where desired state is stored. Drivers: embedded (one manager), etcd (several, later).
 * A transaction is all or nothing, and durable (fsync) when it returns.
 */
export interface Store {
  /** Grows by one with each transaction. */
  revision(): number;
  get<T extends Stored>(collection: Collection, id: string): T | undefined;
  list<T extends Stored>(collection: Collection): T[];
  /**
   * Commits all writes or none. `put` must carry the version that was read (0 for a new object); the stored
   * object gets version + 1. Throws MeshError `conflict` when any version moved on, `exhausted` when the disk
   * is full (nothing is then changed, in memory or on disk), `invalid` past the size bound.
   */
  transact(writes: readonly Write[]): Promise<{ revision: number }>;
  /** Every committed change from now on, in order, one call a transaction. */
  watch(listener: (changes: readonly Change[]) => void): () => void;
  close(): Promise<void>;
}
