/** Closed set of failure codes; the CLI maps them to exit statuses, gRPC to status codes. */
export type ErrorCode =
  | 'invalid' // the input is invalid; a retry does not help
  | 'not-found'
  | 'conflict' // used by another owner, or the version has changed
  | 'unavailable' // the other side is not reachable; a retry may help
  | 'permission'
  | 'unsupported' // not supported by this kernel, node or version
  | 'kernel' // the kernel rejected an operation
  | 'corrupt' // stored data is damaged
  | 'exhausted' // disk, addresses, ports or memory ran out
  | 'internal';

/** The only error type. The message contains what happened and what to do next. */
export class MeshError extends Error {
  readonly code: ErrorCode;
  /** Whether a retry of the same call may succeed without any other change. */
  readonly retry: boolean;

  constructor(code: ErrorCode, message: string, options: { retry?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'MeshError';
    this.code = code;
    this.retry = options.retry ?? code === 'unavailable';
  }
}

/** The message of any thrown value. */
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
