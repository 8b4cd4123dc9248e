import { crc32 } from 'node:zlib';
import { MeshError } from '../base/errors.ts';
import type { Stored } from '../model/cluster.ts';
import type { Collection } from './store.ts';

/**
 * What the rows of the database look like. Every row is `crc32 of key and text, 8 hex digits` + `JSON text`; keys are
 * `collection/id`. Two rows are ours: the format and the summary, which is written with every transaction and holds
 * how many rows there are and what the exclusive or of their checksums is, so that the loss of a row is detected.
 */

/** 1: each task held a copy of its service's spec. 2: tasks refer to generations. */
export const STORE_FORMAT = 2;
export const FORMAT_KEY = '!format';
export const SUMMARY_KEY = '!summary';

export interface Summary {
  revision: number;
  rows: number;
  digest: number;
}

const COLLECTIONS: readonly Collection[] = ['services', 'generations', 'tasks', 'nodes', 'networks', 'cluster'];

/** Bytes of one object as JSON. */
const OBJECT_LIMIT = 1024 * 1024;

export function rowKey(collection: Collection, id: string): string {
  return `${collection}/${id}`;
}

export function splitKey(key: string): { collection: Collection; id: string } | undefined {
  const slash = key.indexOf('/');
  const collection = COLLECTIONS.find((known) => known === key.slice(0, slash));
  return collection === undefined ? undefined : { collection, id: key.slice(slash + 1) };
}

export function checksumOf(key: string, text: string): number {
  return crc32(text, crc32(key));
}

export function encodeRow(key: string, value: unknown): { row: string; checksum: number } {
  const text = JSON.stringify(value);
  const checksum = checksumOf(key, text);
  return { row: checksum.toString(16).padStart(8, '0') + text, checksum };
}

/** As encodeRow, for an object of a caller; throws `invalid` when it is too large. */
export function encodeObject(key: string, value: Stored): { row: string; checksum: number } {
  const encoded = encodeRow(key, value);
  if (Buffer.byteLength(encoded.row) > OBJECT_LIMIT) {
    throw new MeshError('invalid', `${key} is bigger than ${OBJECT_LIMIT} bytes: make it smaller`);
  }
  return encoded;
}

/** Throws MeshError `corrupt` when the row is not what was written. */
export function decodeRow(key: string, row: string): { value: unknown; checksum: number } {
  const text = row.slice(8);
  const checksum = checksumOf(key, text);
  if (row.slice(0, 8) !== checksum.toString(16).padStart(8, '0')) throw damagedRow(key);
  try {
    return { value: JSON.parse(text), checksum };
  } catch {
    throw damagedRow(key);
  }
}

function damagedRow(key: string): MeshError {
  return new MeshError('corrupt', `row ${JSON.stringify(key.slice(0, 100))} is damaged`);
}
