/** Closed set of failure codes; the CLI maps them to exit statuses, gRPC to status codes. */
export type ErrorCode =
  | 'invalid' // the input is wrong; repeating it will not help
  | 'not-found'
  | 'conflict' // in use by another, or changed since it was read
  | 'unavailable' // the peer cannot be reached now; retry
  | 'permission'
  | 'unsupported' // this kernel, node or version cannot do it
  | 'kernel' // the kernel refused an operation
  | 'corrupt' // stored data cannot be trusted
  | 'exhausted' // disk, addresses, ports or memory ran out
  | 'internal';

/** The one error type. The message states what happened and what to do next. */
export class MeshError extends Error {
  readonly code: ErrorCode;
  /** Whether the same call may succeed later without any change. */
  readonly retry: boolean;

  constructor(code: ErrorCode, message: string, options: { retry?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'MeshError';
    this.code = code;
    this.retry = options.retry ?? code === 'unavailable';
  }
}

/** The text of anything that was thrown. */
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
