import { Metadata, type ServiceError, type StatusObject, status } from '@grpc/grpc-js';
import { type ErrorCode, MeshError, messageOf } from '../base/errors.ts';

/** The one table between our codes and gRPC's; one to one, so that a code survives the wire. */
const STATUS_OF: Record<ErrorCode, status> = {
  invalid: status.INVALID_ARGUMENT,
  'not-found': status.NOT_FOUND,
  conflict: status.ABORTED,
  unavailable: status.UNAVAILABLE,
  permission: status.PERMISSION_DENIED,
  unsupported: status.UNIMPLEMENTED,
  kernel: status.FAILED_PRECONDITION,
  corrupt: status.DATA_LOSS,
  exhausted: status.RESOURCE_EXHAUSTED,
  internal: status.INTERNAL,
};

/** Statuses only gRPC itself makes. */
const FOREIGN: Partial<Record<status, ErrorCode>> = {
  [status.CANCELLED]: 'unavailable',
  [status.DEADLINE_EXCEEDED]: 'unavailable',
  [status.ALREADY_EXISTS]: 'conflict',
  [status.OUT_OF_RANGE]: 'invalid',
  [status.UNAUTHENTICATED]: 'permission',
};

const CODE_OF = new Map<status, ErrorCode>([
  ...(Object.entries(STATUS_OF) as [ErrorCode, status][]).map(([code, value]) => [value, code] as const),
  ...Object.entries(FOREIGN).map(([value, code]) => [Number(value) as status, code as ErrorCode] as const),
]);

/** Trailer that marks an error as meshd's own words, and carries its retry flag. */
const RETRY_KEY = 'meshd-retry';
/** Bytes; HTTP/2 header lists are bounded, percent encoding may triple them. */
const MESSAGE_LIMIT = 8_000;

/** What a handler threw, as gRPC wants it. Anything but a MeshError becomes `internal`. */
export function toStatus(thrown: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const error = thrown instanceof MeshError ? thrown : new MeshError('internal', messageOf(thrown));
  const metadata = new Metadata();
  metadata.set(RETRY_KEY, String(error.retry));
  return { code: STATUS_OF[error.code], details: bounded(error.message), metadata };
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
    case status.UNAVAILABLE:
      if (/EACCES/.test(error.details))
        return `no permission to connect to ${where}: run as root or as a member of the socket's group`;
      return `cannot reach meshd at ${where}: ${reason(error.details)}; is meshd running there?`;
    case status.DEADLINE_EXCEEDED:
      return `meshd at ${where} did not answer in time: ${error.details}`;
    case status.CANCELLED:
      return `the call to meshd at ${where} was cancelled`;
    case status.UNIMPLEMENTED:
      return `meshd at ${where} does not know this call (another version, or not a manager): ${error.details}`;
    case status.RESOURCE_EXHAUSTED:
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

function isServiceError(thrown: unknown): thrown is ServiceError {
  return thrown instanceof Error && typeof (thrown as Partial<ServiceError>).code === 'number';
}

/** Well-formed Unicode of a bounded length: grpc-js percent-encodes it and throws on lone surrogates. */
function bounded(text: string): string {
  const whole = Buffer.from(text, 'utf8');
  return whole.length <= MESSAGE_LIMIT
    ? whole.toString('utf8')
    : `${whole.subarray(0, MESSAGE_LIMIT).toString('utf8')} …`;
}
