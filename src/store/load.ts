import { MeshError } from '../base/errors.ts';
import type { Stored } from '../model/cluster.ts';
import type { Database } from './database.ts';
import { migrateFromFormat1 } from './migrate.ts';
import { decodeRow, encodeRow, FORMAT_KEY, rowKey, STORE_FORMAT, SUMMARY_KEY, type Summary, splitKey } from './rows.ts';
import type { Collection } from './store.ts';

/** All objects, by key and by collection. */
export interface ObjectTable {
  object(key: string): Stored | undefined;
  list(collection: Collection): Stored[];
  /** Checksum of the row of an object that is there. */
  checksum(key: string): number;
  set(key: string, collection: Collection, object: Stored | undefined): void;
}

function createObjectTable(): ObjectTable {
  const collections = new Map<Collection, Map<string, Stored>>();
  const objectsOf = (collection: Collection) => {
    const found = collections.get(collection) ?? new Map<string, Stored>();
    collections.set(collection, found);
    return found;
  };
  const object = (key: string) => {
    const location = splitKey(key);
    return location && collections.get(location.collection)?.get(key);
  };
  return {
    object,
    list: (collection) => [...objectsOf(collection).values()],
    checksum: (key) => encodeRow(key, object(key)).checksum,
    set: (key, collection, value) => {
      if (value === undefined) objectsOf(collection).delete(key);
      else objectsOf(collection).set(key, value);
    },
  };
}

/** Reads and checks all rows: each by its checksum, all of them by the summary. Throws `corrupt`, or as readFormat. */
export async function loadRows(database: Database): Promise<{ format: number; table: ObjectTable; summary: Summary }> {
  const format = await readFormat(database);
  const table = createObjectTable();
  const found = { rows: 0, digest: 0 };
  let summary: Summary | undefined;
  for await (const [key, row] of database.rows()) {
    const { value, checksum } = decodeRow(key, row);
    if (key === FORMAT_KEY) continue;
    if (key === SUMMARY_KEY) {
      summary = value as Summary;
      continue;
    }
    const location = splitKey(key);
    if (location === undefined || !isStored(value, location.id)) {
      throw new MeshError('corrupt', `row ${JSON.stringify(key.slice(0, 100))} is not one of meshd's`);
    }
    table.set(key, location.collection, value);
    found.rows += 1;
    found.digest ^= checksum;
  }
  if (summary === undefined) throw new MeshError('corrupt', 'the database has no summary row');
  if (summary.rows !== found.rows || summary.digest !== found.digest >>> 0) {
    throw new MeshError(
      'corrupt',
      `the database has ${found.rows} rows that do not add up to the ${summary.rows} of revision ${summary.revision}: some were lost`,
    );
  }
  return { format, table, summary };
}

/**
 * Rewrites a store of an earlier format, on disk and in `table`, in one batch: a crash leaves the old format or the new
 * one. Revision and versions stay, because no object changed its meaning. Returns the new summary.
 */
export async function migrate(database: Database, table: ObjectTable, before: Summary): Promise<Summary> {
  const summary = { ...before };
  const batch = new Map([[FORMAT_KEY, encodeRow(FORMAT_KEY, { format: STORE_FORMAT }).row]]);
  const migrated = migrateFromFormat1(table);
  for (const { collection, object } of migrated) {
    const key = rowKey(collection, object.id);
    const { row, checksum } = encodeRow(key, object);
    batch.set(key, row);
    if (table.object(key) === undefined) summary.rows += 1;
    else summary.digest ^= table.checksum(key);
    summary.digest ^= checksum;
  }
  summary.digest >>>= 0;
  batch.set(SUMMARY_KEY, encodeRow(SUMMARY_KEY, summary).row);
  await database.write(batch);
  for (const { collection, object } of migrated) table.set(rowKey(collection, object.id), collection, object);
  return summary;
}

/** Throws `unsupported` for a format that a later meshd wrote. */
async function readFormat(database: Database): Promise<number> {
  const row = await database.get(FORMAT_KEY);
  if (row === undefined) throw new MeshError('corrupt', 'the database has no format row');
  const { format } = decodeRow(FORMAT_KEY, row).value as { format: number };
  if (format >= 1 && format <= STORE_FORMAT) return format;
  throw new MeshError(
    'unsupported',
    `the store has format ${format}, this meshd supports formats 1 to ${STORE_FORMAT}: install the meshd that wrote it`,
  );
}

function isStored(value: unknown, id: string): value is Stored {
  const stored = value as Partial<Stored> | null;
  return typeof stored === 'object' && stored?.id === id && Number.isSafeInteger(stored.version);
}
