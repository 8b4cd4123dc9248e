import {
  chmodSync,
  closeSync,
  existsSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  watch,
} from 'node:fs';
import { join } from 'node:path';
import { ClassicLevel } from 'classic-level';
import { MeshError, messageOf } from '../base/errors.ts';
import { encodeRow, FORMAT_KEY, STORE_FORMAT, SUMMARY_KEY, type Summary } from './rows.ts';

/** LevelDB with few operations, whose failures are MeshErrors. */
export interface Database {
  /** All rows in the order of their keys. */
  rows(): AsyncIterable<[key: string, row: string]>;
  get(key: string): Promise<string | undefined>;
  /** One atomic, fsynced batch; a value of undefined deletes the key. */
  write(batch: ReadonlyMap<string, string | undefined>): Promise<void>;
  close(): Promise<void>;
}

/** Path of the database inside the store's directory. */
export function databasePath(directory: string): string {
  return join(directory, 'db');
}

/** Databases are created under this prefix and then renamed. */
const TEMPORARY_PREFIX = 'new-';

/** Opens an existing database. Errors: `conflict` when it is in use, `corrupt`, `exhausted`, `permission`, `unavailable`. */
export async function openDatabase(directory: string): Promise<Database> {
  const path = databasePath(directory);
  chmodSync(path, 0o700);
  const level = new ClassicLevel<string, string>(path, { createIfMissing: false, compression: false });
  try {
    await level.open();
  } catch (thrown) {
    throw storageError(thrown, directory);
  }
  const stopWatching = enforceFileModes(path);
  // Left by starts that were killed; a process that is still creating one has lost the race already.
  for (const name of readdirSync(directory)) {
    if (name.startsWith(TEMPORARY_PREFIX)) rmSync(join(directory, name), { recursive: true, force: true });
  }
  return {
    rows: () => rows(level, directory),
    get: (key) => level.get(key).catch((thrown) => Promise.reject(storageError(thrown, directory))),
    write: async (batch) => {
      const operations = [...batch].map(([key, value]) =>
        value === undefined ? { type: 'del' as const, key } : { type: 'put' as const, key, value },
      );
      await level
        .batch(operations, { sync: true })
        .catch((thrown) => Promise.reject(storageError(thrown, directory, 'written')));
    },
    close: async () => {
      stopWatching();
      await level.close();
    },
  };
}

/**
 * Creates an empty database, if there is none. It appears in one step, complete: LevelDB treats a directory without
 * its CURRENT file as a new database and deletes its files, so it never creates one in place.
 */
export async function createDatabase(directory: string): Promise<void> {
  const temporary = mkdtempSync(join(directory, TEMPORARY_PREFIX));
  try {
    const level = new ClassicLevel<string, string>(temporary, { compression: false });
    await level.open();
    const summary: Summary = { revision: 0, rows: 0, digest: 0 };
    await level.put(FORMAT_KEY, encodeRow(FORMAT_KEY, { format: STORE_FORMAT }).row, { sync: true });
    await level.put(SUMMARY_KEY, encodeRow(SUMMARY_KEY, summary).row, { sync: true });
    await level.close();
    renameSync(temporary, databasePath(directory));
    syncDirectory(directory);
  } catch (thrown) {
    // Another process was faster; the lock decides which one may use it.
    if (!existsSync(databasePath(directory))) throw storageError(thrown, directory, 'written');
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function syncDirectory(directory: string): void {
  const fd = openSync(directory, 'r');
  fsyncSync(fd);
  closeSync(fd);
}

/** Creates the directory, accessible to its owner only. */
export function createPrivateDirectory(directory: string): void {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
    chmodSync(directory, 0o700);
  } catch (thrown) {
    throw new MeshError('permission', `cannot use ${directory} for the store: ${messageOf(thrown)}`);
  }
}

async function* rows(level: ClassicLevel<string, string>, directory: string): AsyncGenerator<[string, string]> {
  try {
    const iterator = level.iterator({ fillCache: false });
    try {
      for (;;) {
        const some = await iterator.nextv(1_000);
        if (some.length === 0) return;
        yield* some;
      }
    } finally {
      await iterator.close();
    }
  } catch (thrown) {
    throw storageError(thrown, directory);
  }
}

/** LevelDB creates files with mode 0644 at any time; the directory is 0700, this is a second safeguard. */
function enforceFileModes(path: string): () => void {
  const restrict = (name: string) => {
    try {
      chmodSync(join(path, name), 0o600);
    } catch {
      // Removed already: LevelDB renames and removes files as it compacts.
    }
  };
  const watcher = watch(path, { persistent: false }, (event, name) => {
    if (event === 'rename' && name !== null) restrict(name); // a file was created or removed; `change` would be our own chmod
  });
  watcher.on('error', () => {});
  for (const name of readdirSync(path)) restrict(name);
  return () => watcher.close();
}

function storageError(thrown: unknown, directory: string, verb: 'read' | 'written' = 'read'): MeshError {
  if (thrown instanceof MeshError) return thrown;
  const { cause } = thrown as { cause?: unknown };
  const reason = cause === undefined ? thrown : cause;
  const { code } = reason as { code?: string };
  const text = messageOf(reason);
  if (code === 'LEVEL_LOCKED') {
    return new MeshError(
      'conflict',
      `another meshd uses the store in ${directory}: stop it, or give this one another state directory`,
    );
  }
  if (/No space left on device|Disk quota exceeded|ENOSPC|EDQUOT/.test(text)) {
    return new MeshError('exhausted', `no space left for the store in ${directory}: free some, nothing was changed`);
  }
  if (/Permission denied|Read-only file system|EACCES|EROFS/.test(text)) {
    return new MeshError('permission', `no permission to write the store in ${directory}: ${text}`);
  }
  // mmap returns EINVAL for a table that was truncated to nothing.
  if (code === 'LEVEL_CORRUPTION' || /No such file or directory|Invalid argument|does not exist/.test(text)) {
    return new MeshError('corrupt', text, { cause: reason });
  }
  // EIO, EMFILE and the like may be temporary: no reason to declare a good store corrupt.
  return new MeshError(
    'unavailable',
    `the store in ${directory} cannot be ${verb} now: ${text}; nothing was changed, see dmesg`,
    { cause: reason },
  );
}
