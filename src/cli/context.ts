import type { Api } from './api.ts';
import type { Io } from './io.ts';

export type Format = 'table' | 'json';

/** What every verb receives besides its own arguments. Verbs return the exit status: 0, or 1 after printing the reason. */
export interface Context {
  io: Io;
  format: Format;
  /** The value of `--format`, undefined without the option: `inspect` then prints JSON, as in Docker. */
  explicitFormat: Format | undefined;
  /** Connects to meshd on first use. */
  api(): Promise<Api>;
}

/** Invalid arguments: exit status 2. */
export class UsageError extends Error {}
