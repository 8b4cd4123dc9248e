/** Closed set of failure codes; the CLI maps them to exit statuses, gRPC to status codes. */
export type ErrorCode =
  | 'invalid' // the input is wrong; repeating it will not help
  | 'not-found'
  | 'conflict' // someone else holds it, or the version moved on
  | 'unavailable' // the other side is not there now; try again
  | 'permission'
  | 'unsupported' // this kernel, node or version cannot do it
  | 'kernel' // the kernel refused an operation
  | 'corrupt' // stored data cannot be trusted
  | 'exhausted' // disk, addresses, ports or memory ran out
  | 'internal';

/** The one error type. The message says what happened and what to do next. */
export class MeshError extends Error {
  readonly code: ErrorCode;
  /** Whether the same call may succeed later without anybody changing anything. */
  readonly retry: boolean;

  constructor(code: ErrorCode, message: string, options: { retry?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'MeshError';
    this.code = code;
    this.retry = options.retry ?? code === 'unavailable';
  }
}

/** What to print of anything that was thrown. */
export function messageOf(thrown: unknown): string {
  return thrown instanceof Error ? thrown.message : String(thrown);
}

/** A value or a typed error, for total functions that must not throw. */
export type Result<T, E = MeshError> = { ok: true; value: T } | { ok: false; error: E };

/** A Result that holds a value. */
export function ok<T>(value: T): { ok: true; value: T } {
  return { ok: true, value };
}

/** A Result that holds an error. */
export function err<E>(error: E): { ok: false; error: E } {
  return { ok: false, error };
}
