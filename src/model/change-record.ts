/** What was changed in the kernel of a node, when and why: one entry of its history. Texts are bounded. */
export interface ChangeRecord {
  /** When it began, milliseconds since the epoch, by the node's clock. */
  at: number;
  /** Milliseconds the kernel took for all of it. */
  took: number;
  why: ChangeReason;
  /** Of the assignment that was carried out or kept. */
  revision: number;
  /** Of a repair: what was not as it should be. */
  wrong: string[];
  /** Of a repair: who did it, where the kernel tells. */
  by: string[];
  /** Names of the services whose ports or tasks the steps are about. */
  services: string[];
  /** The steps in the words of a shell, the first of them; `count` is how many there were. */
  steps: string[];
  count: number;
  /** What the kernel refused, in words. */
  failures: string[];
}

/**
 * `start`: the first look of a new meshd; `assignment`: the manager said so; `repair`: somebody else changed something;
 * `retry`: the kernel had refused it before; `reset`: everything was taken off the node.
 */
export type ChangeReason = 'start' | 'assignment' | 'repair' | 'retry' | 'reset';

/** What a node is asked by `history`; all fields may be missing. */
export interface HistoryQuery {
  /** Not older than this, ms. */
  age?: number;
  service?: string;
  /** The newest so many. */
  limit?: number;
}

/** Oldest first. */
export interface HistoryResult {
  changes: ChangeRecord[];
}
