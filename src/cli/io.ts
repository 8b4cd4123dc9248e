/** The world as a verb sees it: streams, environment, time. Tests give their own. */
export interface Io {
  out(text: string): void;
  err(text: string): void;
  /** Standard output is a terminal a person looks at: redraw, colours. */
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
  /** Resolves after so many milliseconds; the signal ends it early. */
  sleep(milliseconds: number, signal: AbortSignal): Promise<void>;
  /** Calls back on Ctrl-C until the returned function is called. */
  onInterrupt(callback: () => void): () => void;
  /** Where a process is to end: ends it at once if all is written, for taking a connection down takes a while. */
  exitIfFlushed?(status: number): void;
}

/** The process itself. A reader that went away (`| head`) ends it quietly, as it ends any other command. */
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
    terminal,
    columns: process.stdout.columns || 80, // a terminal without a size says 0
    rows: process.stdout.rows || 24,
    colour: terminal && !process.env['NO_COLOR'] && process.env['TERM'] !== 'dumb',
    environment: process.env,
    // Asked for when it is read: making the stream takes time.
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
      // A slow reader of a pipe still gets all of it.
      if (process.stdout.writableLength + process.stderr.writableLength === 0) process.exit(status);
    },
  };
}

/** The listener goes with the sleep: thousands of short ones may share one signal. */
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
