import { createReadStream } from 'node:fs';
import { MeshError, messageOf } from '../base/errors.ts';
import { TOO_LARGE } from '../manifest/document.ts';
import { LIMITS } from '../manifest/limits.ts';
import { parseManifests } from '../manifest/manifest.ts';
import { formatManifestError, type ManifestError } from '../manifest/manifest-error.ts';
import type { ServiceSpec } from '../model/spec.ts';
import type { Io } from './io.ts';
import { lines } from './text/lines.ts';

/* Loads YAML and zod: verbs import this file when they need it. */

export { renderManifest } from '../manifest/render.ts';

/**
 * The services of the files as one transaction; `-` is standard input. Prints the errors and returns undefined if there
 * are any; `effect` ends the summary line. Reads at most LIMITS.textLength of a file. `${NAME}` comes from the
 * environment of meshctl.
 */
export async function readManifests(
  io: Io,
  files: readonly string[],
  effect = '; no changes were made',
): Promise<ServiceSpec[] | undefined> {
  const sources: { file: string; text: string }[] = [];
  const errors: ManifestError[] = [];
  for (const name of files) {
    const file = name === '-' ? 'stdin' : name;
    const bytes = await (name === '-' ? collect(io.input) : readFile(name));
    if (bytes === undefined) {
      const [message, remedy] = TOO_LARGE;
      errors.push({ file, line: 1, column: 1, path: '', message, remedy });
    } else {
      const text = decode(bytes);
      if (text !== undefined) sources.push({ file, text });
      else
        errors.push({
          file,
          line: 1,
          column: 1,
          path: '',
          message: 'is not UTF-8 text',
          remedy: 'use a YAML file in UTF-8',
        });
    }
  }
  if (errors.length === 0) {
    const parsed = parseManifests(sources, { environment: io.environment });
    if (parsed.ok) return parsed.value;
    errors.push(...parsed.error);
  }
  io.err(lines(errors.map(formatManifestError)));
  const count = errors.length === 1 ? '1 error' : `${errors.length} errors`;
  io.err(`meshctl: ${count}${errors.length >= LIMITS.errors ? ' or more' : ''}${effect}\n`);
  return undefined;
}

/** The bytes of a stream, or undefined if there are too many. */
async function collect(stream: AsyncIterable<Uint8Array>): Promise<Uint8Array | undefined> {
  const pieces: Uint8Array[] = [];
  let length = 0;
  for await (const piece of stream) {
    length += piece.length;
    if (length > LIMITS.textLength) return undefined;
    pieces.push(piece);
  }
  return Buffer.concat(pieces);
}

function decode(bytes: Uint8Array): string | undefined {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

async function readFile(name: string): Promise<Uint8Array | undefined> {
  try {
    return await collect(createReadStream(name, { end: LIMITS.textLength }));
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    const why: Record<string, string> = {
      ENOENT: 'no such file; check the path, or use - for standard input',
      EISDIR: 'is a directory; list its files instead',
      EACCES: 'permission denied; change its mode, or run meshctl as its owner',
    };
    throw new MeshError('invalid', `cannot read ${name}: ${why[code ?? ''] ?? messageOf(error)}`);
  }
}
