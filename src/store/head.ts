import { closeSync, constants, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs';
import { MeshError, messageOf } from '../base/errors.ts';
import { checksumOf } from './rows.ts';

/**
 * The file `HEAD` beside the database: the newest acknowledged revision. LevelDB silently drops the end of a log that it
 * cannot read; a database that ends before HEAD has lost acknowledged data.
 * Written in place (one sector, one size, no fsync): after a power cut it may be old, which is harmless; never torn.
 */

/** The revision in the file; undefined when there is none. Throws `corrupt` when it cannot be read. */
export function readHead(path: string): number | undefined {
  if (!existsSync(path)) return undefined;
  const text = readFileSync(path, 'latin1');
  const match = /^(\d{16}) ([0-9a-f]{8})\n$/.exec(text);
  if (match === null || headLine(Number(match[1])) !== text) {
    throw new MeshError('corrupt', `${path} is damaged: it is unknown whether the database beside it is complete`);
  }
  return Number(match[1]);
}

export interface Head {
  write(revision: number): void;
  close(): void;
}

/** Writes `revision` to the file and keeps it open. */
export function openHead(path: string, revision: number): Head {
  if (!existsSync(path)) createHead(path, revision);
  const fd = openSync(path, constants.O_WRONLY);
  const write = (next: number) => {
    writeSync(fd, headLine(next), 0, 'latin1');
  };
  write(revision);
  return { write, close: () => closeSync(fd) };
}

function createHead(path: string, revision: number): void {
  const temporary = `${path}.new`;
  try {
    const fd = openSync(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_TRUNC, 0o600);
    writeSync(fd, headLine(revision), 0, 'latin1');
    fsyncSync(fd);
    closeSync(fd);
    renameSync(temporary, path);
  } catch (thrown) {
    throw new MeshError('exhausted', `cannot make ${path}: ${messageOf(thrown)}`, { cause: thrown });
  }
}

function headLine(revision: number): string {
  const digits = String(revision).padStart(16, '0');
  return `${digits} ${checksumOf('HEAD', digits).toString(16).padStart(8, '0')}\n`;
}
