import { MeshError } from '../base/errors.ts';
import type { Stored } from '../model/cluster.ts';
import type { Database } from './database.ts';
import { decodeRow, encodeRow, FORMAT_KEY, STORE_FORMAT, SUMMARY_KEY, type Summary, splitKey } from './rows.ts';
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

/** Reads everything and checks it: each row by its checksum, all of them by the summary. Throws `corrupt`. */
export async function loadRows(database: Database): Promise<{ table: ObjectTable; summary: Summary }> {
  await checkFormat(database);
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
  return { table, summary };
}

async function checkFormat(database: Database): Promise<void> {
  const row = await database.get(FORMAT_KEY);
  if (row === undefined) throw new MeshError('corrupt', 'the database has no format row');
  const { format } = decodeRow(FORMAT_KEY, row).value as { format: number };
  if (format !== STORE_FORMAT) {
    throw new MeshError(
      'unsupported',
      `the store has format ${format}, this meshd knows ${STORE_FORMAT}: install the meshd that wrote it`,
    );
  }
}

function isStored(value: unknown, id: string): value is Stored {
  const stored = value as Partial<Stored> | null;
  return typeof stored === 'object' && stored?.id === id && Number.isSafeInteger(stored.version);
}
