import { appendFile, mkdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../../base/clock.ts';
import { MeshError, messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { ChangeReason, ChangeRecord, HistoryQuery, HistoryResult } from '../../model/change-record.ts';

/** What was changed in this node's kernel, kept for people to ask; a crash loses at most the last tenth of a second. */
export interface History {
  /** Costs no more than a line of JSON; the disk is written to later. */
  add(change: ChangeRecord): void;
  /** Throws MeshError `invalid` for a question that makes no sense. */
  query(question: unknown): Promise<HistoryResult>;
  /** Resolves when all is on disk, or cannot be. */
  flush(): Promise<void>;
}

/** Milliseconds in which lines are gathered before they are written. */
const WRITE_DELAY = 100;
/** Bytes of one file; there are two, the newer begun when the older is full. */
const FILE_LIMIT = 1024 * 1024;
/** Bytes in memory, for the time the disk takes nothing. */
const MEMORY_LIMIT = 1024 * 1024;
/** Of one record; texts are in letters. */
const RECORD_LIMITS = { text: 500, steps: 50, wrong: 20, by: 10, services: 50, failures: 10 };
/** Changes in an answer when the question names no limit, and at most. */
const DEFAULT_COUNT = 200;
const MAX_COUNT = 10_000;
const REASONS: readonly ChangeReason[] = ['start', 'assignment', 'repair', 'retry', 'reset'];

export function openHistory(stateDir: string, clock: Clock, log: Log): History {
  const directory = join(stateDir, 'agent');
  const path = join(directory, 'history.jsonl');
  const previousPath = join(directory, 'history.1.jsonl');
  /** The newest lines, on disk or not. */
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
    // What a crash cut off must not take the next line with it.
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
      // Unwritten lines are among the recent ones: what memory let go of is gone.
      if (unwritten.length > recent.length) unwritten = unwritten.slice(-recent.length);
      cancel ??= clock.after(WRITE_DELAY, () => void writeNow());
    },
    async query(question) {
      const { age, service, limit } = parseQuery(question);
      await writeNow();
      const lines = new Set([...(await readLines(previousPath)), ...(await readLines(path)), ...recent]);
      const oldest = clock.now() - age;
      const changes = [...lines]
        .flatMap(parseRecord)
        .filter(({ at, services }) => at >= oldest && (service === undefined || services.includes(service)))
        .sort((a, b) => a.at - b.at);
      return { changes: changes.slice(-limit) };
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
  const clean = text.replaceAll('\0', '');
  return clean.length <= RECORD_LIMITS.text ? clean : `${clean.slice(0, RECORD_LIMITS.text - 1)}…`;
}

function parseQuery(question: unknown): { age: number; service: string | undefined; limit: number } {
  const { age, service, limit } = (question ?? {}) as { [field in keyof HistoryQuery]?: unknown };
  const isValid =
    (age === undefined || (typeof age === 'number' && age >= 0)) &&
    (service === undefined || typeof service === 'string') &&
    (limit === undefined || (Number.isInteger(limit) && (limit as number) > 0));
  if (!isValid)
    throw new MeshError('invalid', 'history takes an age in ms, the name of a service, and a limit above 0');
  return {
    age: (age as number | undefined) ?? Number.POSITIVE_INFINITY,
    service: service as string | undefined,
    limit: Math.min((limit as number | undefined) ?? DEFAULT_COUNT, MAX_COUNT),
  };
}

async function readLines(path: string): Promise<string[]> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.split('\n').filter((line) => line !== '');
}

async function endsWithNewline(path: string): Promise<boolean> {
  const text = await readFile(path).catch(() => undefined);
  return text === undefined || text.length === 0 || text.at(-1) === 0x0a;
}

/** A line that was torn by a crash, or that somebody wrote, is left out. */
function parseRecord(line: string): ChangeRecord[] {
  try {
    const record = JSON.parse(line) as ChangeRecord;
    const numbers = [record.at, record.took, record.revision, record.count];
    const lists = [record.wrong, record.by, record.services, record.steps, record.failures];
    const isValid =
      numbers.every(Number.isFinite) &&
      REASONS.includes(record.why) &&
      lists.every((list) => Array.isArray(list) && list.every((item) => typeof item === 'string'));
    return isValid ? [record] : [];
  } catch {
    return [];
  }
}
