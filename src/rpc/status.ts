import { type ErrorCode, MeshError, messageOf } from '../base/errors.ts';

/** gRPC's own numbers (grpc/grpc, doc/statuscodes.md); without grpc-js, which meshctl does not load. */
export const STATUS = {
  OK: 0,
  CANCELLED: 1,
  UNKNOWN: 2,
  INVALID_ARGUMENT: 3,
  DEADLINE_EXCEEDED: 4,
  NOT_FOUND: 5,
  ALREADY_EXISTS: 6,
  PERMISSION_DENIED: 7,
  RESOURCE_EXHAUSTED: 8,
  FAILED_PRECONDITION: 9,
  ABORTED: 10,
  OUT_OF_RANGE: 11,
  UNIMPLEMENTED: 12,
  INTERNAL: 13,
  UNAVAILABLE: 14,
  DATA_LOSS: 15,
  UNAUTHENTICATED: 16,
} as const;

/** What a call ended with, as grpc-js has it. */
export interface ServiceError extends Error {
  code: number;
  details: string;
  metadata?: { get(key: string): unknown[] };
}

/** The one table between our codes and gRPC's; one to one, so that a code survives the wire. */
const STATUS_OF: Record<ErrorCode, number> = {
  invalid: STATUS.INVALID_ARGUMENT,
  'not-found': STATUS.NOT_FOUND,
  conflict: STATUS.ABORTED,
  unavailable: STATUS.UNAVAILABLE,
  permission: STATUS.PERMISSION_DENIED,
  unsupported: STATUS.UNIMPLEMENTED,
  kernel: STATUS.FAILED_PRECONDITION,
  corrupt: STATUS.DATA_LOSS,
  exhausted: STATUS.RESOURCE_EXHAUSTED,
  internal: STATUS.INTERNAL,
};

/** Statuses only gRPC itself makes. */
const FOREIGN: Record<number, ErrorCode> = {
  [STATUS.CANCELLED]: 'unavailable',
  [STATUS.DEADLINE_EXCEEDED]: 'unavailable',
  [STATUS.ALREADY_EXISTS]: 'conflict',
  [STATUS.OUT_OF_RANGE]: 'invalid',
  [STATUS.UNAUTHENTICATED]: 'permission',
};

const CODE_OF = new Map<number, ErrorCode>([
  ...(Object.entries(STATUS_OF) as [ErrorCode, number][]).map(([code, value]) => [value, code] as const),
  ...Object.entries(FOREIGN).map(([value, code]) => [Number(value), code] as const),
]);

/** Trailer that marks an error as meshd's own words, and carries its retry flag. */
export const RETRY_KEY = 'meshd-retry';

/** How a call ended. */
export interface Status {
  code: number;
  details: string;
  /** Present in meshd's own words only. */
  retry?: boolean;
}

/** Bytes; header lists are bounded, percent encoding may triple them. */
const DETAILS_LIMIT = 8_000;

/** What a handler threw, as gRPC wants it. Anything but a MeshError becomes `internal`. */
export function toStatus(thrown: unknown): Status {
  const error = thrown instanceof MeshError ? thrown : new MeshError('internal', messageOf(thrown));
  return { code: STATUS_OF[error.code], details: bounded(error.message), retry: error.retry };
}

/** Well-formed Unicode of a bounded length: percent encoding throws on lone surrogates. */
function bounded(text: string): string {
  const whole = Buffer.from(text, 'utf8');
  return whole.length <= DETAILS_LIMIT
    ? whole.toString('utf8')
    : `${whole.subarray(0, DETAILS_LIMIT).toString('utf8')} …`;
}

/** gRPC's error as ours; `where` names the other side in messages gRPC made itself. */
export function fromStatus(thrown: unknown, where: string): MeshError {
  if (thrown instanceof MeshError) return thrown;
  if (!isServiceError(thrown)) return new MeshError('internal', messageOf(thrown), { cause: thrown });
  const code = CODE_OF.get(thrown.code) ?? 'internal';
  const retry = thrown.metadata?.get(RETRY_KEY)[0];
  if (retry !== undefined) return new MeshError(code, thrown.details, { retry: retry === 'true' });
  return new MeshError(code, explain(thrown, where), { cause: thrown });
}

function explain(error: ServiceError, where: string): string {
  switch (error.code) {
    case STATUS.UNAVAILABLE:
      if (/EACCES/.test(error.details))
        return `no permission to connect to ${where}: run as root or as a member of the socket's group`;
      return `cannot reach meshd at ${where}: ${reason(error.details)}; is meshd running there?`;
    case STATUS.DEADLINE_EXCEEDED:
      return `meshd at ${where} did not answer in time: ${error.details}`;
    case STATUS.CANCELLED:
      return `the call to meshd at ${where} was cancelled`;
    case STATUS.UNIMPLEMENTED:
      return `meshd at ${where} does not know this call (another version, or not a manager): ${error.details}`;
    case STATUS.RESOURCE_EXHAUSTED:
      return `a message to or from meshd at ${where} is too big: ${error.details}`;
    default:
      return `meshd at ${where}: ${error.details}`;
  }
}

/** grpc-js wraps the reason in prose that tells a person nothing. */
function reason(details: string): string {
  const found = /\b(E[A-Z]{3,})\b/.exec(details)?.[1];
  if (found === 'ENOENT') return 'no such socket';
  if (found === 'ECONNREFUSED') return 'connection refused';
  return found ?? (details || 'no connection');
}

export function isServiceError(thrown: unknown): thrown is ServiceError {
  return thrown instanceof Error && typeof (thrown as Partial<ServiceError>).code === 'number';
}
