import { printableOutput } from './text/lines.ts';

/** Streams, environment and time of a verb; tests provide their own. */
export interface Io {
  /** Writes to standard output and standard error. Verbs get both through `printableIo`. */
  out(text: string): void;
  err(text: string): void;
  /** Writes to standard output unchanged: cursor movements, and text of the user's own files. */
  raw(text: string): void;
  /** Standard output is a terminal: redraw, colours. */
  terminal: boolean;
  /** Width and height of that terminal. */
  columns: number;
  rows: number;
  colour: boolean;
  environment: Readonly<Record<string, string | undefined>>;
  /** Standard input as bytes, in pieces. */
  input: AsyncIterable<Uint8Array>;
  /** Wall clock, milliseconds. */
  now(): number;
  /** Resolves after this many milliseconds, or earlier when the signal aborts. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** Calls back on Ctrl-C until the returned function is called. */
  onInterrupt(callback: () => void): () => void;
  /** Exits the process if all output is written, because closing a connection takes a while. */
  exitIfFlushed?(status: number): void;
}

/** The streams of the process. A closed pipe (`| head`) ends it silently, like any other command. */
export function processIo(): Io {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EPIPE') process.exit(0);
      throw error;
    });
  }
  const terminal = process.stdout.isTTY === true;
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    raw: (text) => void process.stdout.write(text),
    terminal,
    columns: process.stdout.columns || 80, // a terminal without a size says 0
    rows: process.stdout.rows || 24,
    colour: terminal && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb',
    environment: process.env,
    // Opened when it is first read, because creating the stream takes time.
    get input() {
      return process.stdin;
    },
    now: Date.now,
    sleep,
    onInterrupt(callback) {
      process.on('SIGINT', callback);
      return () => process.off('SIGINT', callback);
    },
    exitIfFlushed(status) {
      // A slow reader of a pipe still receives everything.
      if (process.stdout.writableLength + process.stderr.writableLength === 0) process.exit(status);
    },
  };
}

/** The same Io with control characters removed from what is printed: texts of nodes and tasks are not trusted. */
export function printableIo(io: Io): Io {
  return Object.assign(Object.create(io) as Io, {
    out: (text: string) => io.out(printableOutput(text)),
    err: (text: string) => io.err(printableOutput(text)),
  });
}

/** Removes its listener when it ends: thousands of short sleeps may share one signal. */
function sleep(milliseconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const timer = setTimeout(end, milliseconds);
    if (signal.aborted) end();
    else signal.addEventListener('abort', end);
  });
}
