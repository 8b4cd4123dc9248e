import type { Api } from './api.ts';
import type { Io } from './io.ts';

export type Format = 'table' | 'json';

/** What every verb is given besides its own arguments. Verbs return the exit status: 0, or 1 after telling why. */
export interface Context {
  io: Io;
  format: Format;
  /** What `--format` said; undefined when it was not given: what is a table otherwise may be JSON then, as in Docker. */
  explicitFormat: Format | undefined;
  /** Opens the connection to meshd when a verb first needs it. */
  api(): Promise<Api>;
}

/** The arguments make no sense: exit status 2. */
export class UsageError extends Error {}
