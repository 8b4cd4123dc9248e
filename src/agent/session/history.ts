import { appendFile, mkdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { printable } from '../../base/printable.ts';
import type { ChangeRecord, HistoryResult } from '../../model/change-record.ts';

/** The changes of this node's kernel, kept on disk; a crash loses at most the last tenth of a second. */
export interface History {
  /** Only renders a line of JSON; the disk is written later. */
  add(change: ChangeRecord): void;
  /** Throws MeshError `invalid` for a malformed question. */
  query(question: unknown): Promise<HistoryResult>;
  /** Resolves when everything is on disk, or cannot be written. */
  flush(): Promise<void>;
}

/** For how long lines are collected before they are written, ms. */
const WRITE_DELAY = 100;
/** Bytes of one file; there are two, and the older is replaced when the newer is full. */
const FILE_LIMIT = 1024 * 1024;
/** Bytes in memory, in case the disk cannot be written. */
const MEMORY_LIMIT = 1024 * 1024;
/** Bounds of one record: characters of a text, entries of a list. */
const RECORD_LIMITS = { text: 500, steps: 50, wrong: 20, by: 10, services: 50, failures: 10 };
/** Changes in an answer: by default, and at most. */
const DEFAULT_COUNT = 200;
const MAX_COUNT = 10_000;

export function openHistory(stateDir: string, clock: Clock, log: Log): History {
  const directory = join(stateDir, 'agent');
  const path = join(directory, 'history.jsonl');
  const previousPath = join(directory, 'history.1.jsonl');
  /** The newest lines, written or not. */
  const recent: string[] = [];
  let size = 0;
  let unwritten: string[] = [];
  let fileSize: number | undefined;
  let cancel: (() => void) | undefined;
  let writing: Promise<void> = Promise.resolve();
  let failureLogged = false;

  function writeNow(): Promise<void> {
    cancel?.();
    cancel = undefined;
    const lines = unwritten;
    unwritten = [];
    if (lines.length > 0) {
      writing = writing.then(() => append(`${lines.join('\n')}\n`)).catch(onWriteError);
    }
    return writing;
  }

  async function append(text: string): Promise<void> {
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const lastLineIsTorn = fileSize === undefined && !(await endsWithNewline(path));
    fileSize ??= (await stat(path).catch(() => undefined))?.size ?? 0;
    if (fileSize > 0 && fileSize + Buffer.byteLength(text) > FILE_LIMIT) {
      await rename(path, previousPath);
      fileSize = 0;
    }
    // A line that a crash cut off must not damage the next one.
    await appendFile(path, lastLineIsTorn ? `\n${text}` : text, { mode: 0o600 });
    fileSize += Buffer.byteLength(text);
    failureLogged = false;
  }

  function onWriteError(thrown: unknown): void {
    fileSize = undefined;
    if (!failureLogged) log.warn(`cannot write ${path}: ${messageOf(thrown)}; the history is in memory only`);
    failureLogged = true;
  }

  return {
    add(change) {
      const line = JSON.stringify(truncateRecord(change));
      recent.push(line);
      unwritten.push(line);
      size += line.length;
      while (size > MEMORY_LIMIT && recent.length > 1) size -= recent.shift()!.length;
      // Unwritten lines are among the recent ones: those dropped from memory are lost.
      if (unwritten.length > recent.length) unwritten = unwritten.slice(-recent.length);
      cancel ??= clock.after(WRITE_DELAY, () => void writeNow());
    },
    async query(question) {
      // Loaded with the first question: the schemas cost memory that an idle daemon does not need.
      const { parseChangeRecord, parseHistoryQuery } = await import('../../model/node-answers.ts');
      const { age = Number.POSITIVE_INFINITY, service, limit = DEFAULT_COUNT } = parseHistoryQuery(question);
      await writeNow();
      const lines = new Set([...(await readLines(previousPath)), ...(await readLines(path)), ...recent]);
      const oldest = clock.now() - age;
      const changes = [...lines]
        .flatMap((line) => parseChangeRecord(line) ?? [])
        .filter(({ at, services }) => at >= oldest && (service === undefined || services.includes(service)))
        .sort((a, b) => a.at - b.at);
      return { changes: changes.slice(-Math.min(limit, MAX_COUNT)) };
    },
    flush: writeNow,
  };
}

function truncateRecord(change: ChangeRecord): ChangeRecord {
  const texts = (list: readonly string[], count: number) => list.slice(0, count).map(truncateText);
  return {
    ...change,
    steps: texts(change.steps, RECORD_LIMITS.steps),
    wrong: texts(change.wrong, RECORD_LIMITS.wrong),
    by: texts(change.by, RECORD_LIMITS.by),
    services: texts(change.services, RECORD_LIMITS.services),
    failures: texts(change.failures, RECORD_LIMITS.failures),
  };
}

function truncateText(text: string): string {
  const clean = printable(text);
  return clean.length <= RECORD_LIMITS.text ? clean : `${clean.slice(0, RECORD_LIMITS.text - 1)}…`;
}

async function readLines(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n').filter((line) => line !== '');
}

async function endsWithNewline(path: string): Promise<boolean> {
  const text = await readFile(path).catch(() => undefined);
  return text === undefined || text.length === 0 || text.at(-1) === 0x0a;
}
