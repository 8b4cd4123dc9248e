import { type Logger, pino } from 'pino';

export type Log = Logger;

/** Writes JSON lines to standard error, for journald and `jq`. */
export function createLog(level: string, bindings: Record<string, unknown> = {}): Log {
  return pino(
    { level, base: bindings, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  );
}

/** A log that discards everything, for tests and short-lived commands. */
export function silentLog(): Log {
  return pino({ level: 'silent' });
}
