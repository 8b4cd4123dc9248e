import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Stored } from '../model/cluster.ts';
import { createDatabase, createPrivateDirectory, type Database, databasePath, openDatabase } from './database.ts';
import { type Head, openHead, readHead } from './head.ts';
import { loadRows, migrate, type ObjectTable } from './load.ts';
import { encodeObject, encodeRow, rowKey, STORE_FORMAT, SUMMARY_KEY, type Summary } from './rows.ts';
import type { Change, Collection, Store, Write } from './store.ts';

/** Writes of one transaction. */
const WRITES_LIMIT = 200_000;

/**
 * Opens the store in `directory` (made when missing) for this process alone. All objects are held in memory; reads
 * never touch the disk. Errors: `conflict` when another process has it, `corrupt` when anything acknowledged may be
 * missing or changed (nothing is then repaired by guessing), `unsupported` for a newer format, `exhausted`,
 * `permission`, `unavailable` for other errors of the disk or the process.
 */
export async function openEmbeddedStore(directory: string, log: Log): Promise<Store> {
  createPrivateDirectory(directory);
  const headPath = join(directory, 'HEAD');
  let database: Database | undefined;
  try {
    const acknowledged = readHead(headPath);
    if (!existsSync(databasePath(directory))) {
      if (acknowledged !== undefined) {
        throw new MeshError('corrupt', `revision ${acknowledged} was acknowledged, but the database is missing`);
      }
      await createDatabase(directory);
    }
    database = await openDatabase(directory);
    const { format, table, summary: loaded } = await loadRows(database);
    if (acknowledged === undefined && loaded.revision > 0) {
      log.warn(
        { directory, revision: loaded.revision },
        'HEAD of the store was missing; the database is whole in itself',
      );
    }
    if (loaded.revision < (acknowledged ?? 0)) {
      throw new MeshError(
        'corrupt',
        `revision ${acknowledged} was acknowledged, but the database ends at ${loaded.revision}: it was rolled back or cut`,
      );
    }
    const summary = format === STORE_FORMAT ? loaded : await migrate(database, table, loaded);
    if (format !== STORE_FORMAT)
      log.info({ directory }, `converted the store from format ${format} to ${STORE_FORMAT}`);
    return embeddedStore(directory, database, openHead(headPath, summary.revision), table, summary, log);
  } catch (thrown) {
    await database?.close();
    if (!(thrown instanceof MeshError) || thrown.code !== 'corrupt') throw thrown;
    throw new MeshError(
      'corrupt',
      `the store in ${directory} is damaged: ${thrown.message}. ` +
        `meshd does not start with it. Restore the directory from a backup, or start with an empty store: ` +
        `mv ${directory} ${directory}.broken, start meshd, apply your manifests again`,
      { cause: thrown },
    );
  }
}

function embeddedStore(
  directory: string,
  opened: Database,
  head: Head,
  table: ObjectTable,
  loaded: Summary,
  log: Log,
): Store {
  let database: Database | undefined = opened;
  let summary = loaded;
  let closed = false;
  let queue: Promise<unknown> = Promise.resolve();
  /** Keys of a failed batch: the disk may or may not have them. */
  const uncertainKeys = new Set<string>();
  const listeners = new Set<(changes: readonly Change[]) => void>();

  /** The row of this key as memory holds it. */
  function rowInMemory(key: string): string | undefined {
    if (key === SUMMARY_KEY) return encodeRow(key, summary).row;
    const object = table.object(key);
    return object === undefined ? undefined : encodeRow(key, object).row;
  }

  /**
   * After a failed write LevelDB's log may end in half a record, and what is appended after that would be lost at the
   * next start. Opening the database again starts a new log; rows of the failed batch are rewritten from memory.
   */
  async function recover(): Promise<Database> {
    await database?.close();
    database = undefined;
    const reopened = await openDatabase(directory);
    try {
      await reopened.write(new Map([...uncertainKeys].map((key) => [key, rowInMemory(key)])));
    } catch (thrown) {
      await reopened.close();
      throw thrown;
    }
    uncertainKeys.clear();
    database = reopened;
    return reopened;
  }

  /** HEAD only detects loss; the transaction is durable without it. */
  function writeHead(revision: number): void {
    try {
      head.write(revision);
    } catch (thrown) {
      log.error({ err: thrown, directory }, 'cannot write HEAD of the store: a later loss of data may stay undetected');
    }
  }

  async function commit(writes: readonly Write[]): Promise<{ revision: number }> {
    if (writes.length === 0) return { revision: summary.revision };
    const { changes, batch, next } = prepareTransaction(table, summary, writes);
    const writable = uncertainKeys.size === 0 && database !== undefined ? database : await recover();
    try {
      await writable.write(batch);
    } catch (thrown) {
      for (const key of batch.keys()) uncertainKeys.add(key);
      await recover().catch(() => {}); // or at the next transaction
      throw thrown;
    }
    summary = next;
    for (const { collection, id, after } of changes) table.set(rowKey(collection, id), collection, after);
    writeHead(next.revision);
    for (const listener of [...listeners]) {
      try {
        listener(changes);
      } catch (thrown) {
        log.error({ err: thrown }, `a listener of the store failed: ${messageOf(thrown)}`);
      }
    }
    return { revision: next.revision };
  }

  return {
    revision: () => summary.revision,
    get: <T extends Stored>(collection: Collection, id: string) =>
      table.object(rowKey(collection, id)) as T | undefined,
    list: <T extends Stored>(collection: Collection) => table.list(collection) as T[],
    async transact(writes) {
      if (closed) throw new MeshError('unavailable', 'the store is closed');
      const result = queue.then(() => commit(writes));
      queue = result.catch(() => {});
      return result;
    },
    watch(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    async close() {
      if (closed) return;
      const last = queue;
      closed = true;
      await last;
      listeners.clear();
      await database?.close();
      database = undefined;
      head.close();
    },
  };
}

/** Checks a transaction against the stored objects and computes its rows; changes nothing. */
function prepareTransaction(table: ObjectTable, summary: Summary, writes: readonly Write[]) {
  if (writes.length > WRITES_LIMIT) {
    throw new MeshError('invalid', `a transaction of ${writes.length} writes is too big: at most ${WRITES_LIMIT}`);
  }
  const next: Summary = { ...summary, revision: summary.revision + 1 };
  const batch = new Map<string, string | undefined>();
  const changes: Change[] = [];
  for (const write of writes) {
    const collection = 'put' in write ? write.put : write.remove;
    const id = 'put' in write ? write.object.id : write.id;
    const version = 'put' in write ? write.object.version : write.version;
    const key = rowKey(collection, id);
    if (!/^[\w.-]{1,128}$/.test(id)) throw new MeshError('invalid', `${JSON.stringify(id)} is not an id`);
    if (batch.has(key)) throw new MeshError('invalid', `a transaction writes ${key} twice`);
    const before = table.object(key);
    if ((before?.version ?? 0) !== version || (before === undefined && 'remove' in write)) {
      throw new MeshError(
        'conflict',
        `${key} has changed since it was read (version ${before?.version ?? 0}, not ${version}): read it again`,
      );
    }
    let after: Stored | undefined;
    if ('put' in write) {
      const { row, checksum } = encodeObject(key, { ...write.object, version: version + 1 });
      batch.set(key, row);
      next.digest ^= checksum;
      // Memory gets what a restart would load, and the caller's object stays the caller's.
      after = JSON.parse(row.slice(8)) as Stored;
    } else {
      batch.set(key, undefined);
    }
    if (before !== undefined) next.digest ^= table.checksum(key);
    next.rows += (after === undefined ? 0 : 1) - (before === undefined ? 0 : 1);
    changes.push({ revision: next.revision, collection, id, before, after });
  }
  next.digest >>>= 0;
  batch.set(SUMMARY_KEY, encodeRow(SUMMARY_KEY, next).row);
  return { changes, batch, next };
}
