import { type Logger, pino } from 'pino';

export type Log = Logger;

/** JSON lines on standard error; journald and people with `jq` both read them. */
export function createLog(level: string, bindings: Record<string, unknown> = {}): Log {
  return pino(
    { level, base: bindings, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ fd: 2, sync: true }),
  );
}

/** A log without output, for tests and short-lived commands. */
export function silentLog(): Log {
  return pino({ level: 'silent' });
}
