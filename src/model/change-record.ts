/** One entry of a node's history: what was changed in its kernel, when and why. Texts are bounded. */
export interface ChangeRecord {
  /** When it began, milliseconds since the epoch, by the node's clock. */
  at: number;
  /** Duration in the kernel, ms. */
  took: number;
  why: ChangeReason;
  /** Revision of the assignment that was applied or restored. */
  revision: number;
  /** Of a repair: the drift, one line per object. */
  wrong: string[];
  /** Of a repair: the processes that caused the drift, as far as the kernel reports them. */
  by: string[];
  /** Names of the services whose ports or tasks the steps affect. */
  services: string[];
  /** The first steps as shell commands; `count` is the number of all. */
  steps: string[];
  count: number;
  /** Operations that the kernel rejected, for people. */
  failures: string[];
}

/**
 * `start`: the first observation after meshd started; `assignment`: a new assignment of the manager; `repair`: another
 * process changed something; `retry`: the kernel had rejected it before; `reset`: everything was removed from the node.
 */
export type ChangeReason = 'start' | 'assignment' | 'repair' | 'retry' | 'reset';

/** A request for a node's history; all fields are optional. */
export interface HistoryQuery {
  /** Maximum age of entries, ms. */
  age?: number;
  service?: string;
  /** Number of entries, the newest. */
  limit?: number;
}

/** Oldest first. */
export interface HistoryResult {
  changes: ChangeRecord[];
}
