import { Code } from '@connectrpc/connect';
import { type ErrorCode, MeshError, messageOf } from '../base/errors.ts';

/** The one table between our codes and those of Connect and gRPC, which are the same numbers; one to one, so that a code survives the trip. */
const STATUS_OF: Record<ErrorCode, Code> = {
  invalid: Code.InvalidArgument,
  'not-found': Code.NotFound,
  conflict: Code.Aborted,
  unavailable: Code.Unavailable,
  permission: Code.PermissionDenied,
  unsupported: Code.Unimplemented,
  kernel: Code.FailedPrecondition,
  corrupt: Code.DataLoss,
  exhausted: Code.ResourceExhausted,
  internal: Code.Internal,
};

/** Codes that only the libraries themselves use. */
const FOREIGN: readonly [Code, ErrorCode][] = [
  [Code.Canceled, 'unavailable'],
  [Code.DeadlineExceeded, 'unavailable'],
  [Code.AlreadyExists, 'conflict'],
  [Code.OutOfRange, 'invalid'],
  [Code.Unauthenticated, 'permission'],
];

const CODE_OF = new Map<number, ErrorCode>([
  ...(Object.entries(STATUS_OF) as [ErrorCode, Code][]).map(([code, status]) => [status, code] as const),
  ...FOREIGN,
]);

/** Header or trailer that marks an error as meshd's own words, and carries its retry flag. */
export const RETRY_KEY = 'meshd-retry';

/** How a call failed, whatever the transport. */
export interface Status {
  code: number;
  details: string;
  /** Value of RETRY_KEY; absent when the error is the library's own. */
  retry?: string;
  cause: unknown;
}

/** Bytes; header lists are bounded, percent encoding may triple them. */
const DETAILS_LIMIT = 8_000;

export function toStatus(error: MeshError): Required<Status> {
  return {
    code: STATUS_OF[error.code],
    details: bounded(error.message),
    retry: String(error.retry),
    cause: error,
  };
}

/** Well-formed Unicode of a bounded length: percent encoding throws on lone surrogates. */
function bounded(text: string): string {
  const whole = Buffer.from(text, 'utf8');
  return whole.length <= DETAILS_LIMIT
    ? whole.toString('utf8')
    : `${whole.subarray(0, DETAILS_LIMIT).toString('utf8')} …`;
}

/** A failure as ours; `where` names the other side in messages that the library made itself. */
export function fromStatus(status: Status, where: string): MeshError {
  const code = CODE_OF.get(status.code) ?? 'internal';
  if (status.retry !== undefined) return new MeshError(code, status.details, { retry: status.retry === 'true' });
  return new MeshError(code, explain(status, where), { cause: status.cause });
}

function explain({ code, details, cause }: Status, where: string): string {
  switch (code) {
    case Code.Unavailable: {
      const errno = /\b(E[A-Z]{3,})\b/.exec(`${details} ${messageOf(cause)}`)?.[1];
      if (errno === 'EACCES' || errno === 'EPERM')
        return `no permission to connect to ${where}: run as root or as a member of the group meshd`;
      return `cannot reach meshd at ${where}: ${reason(errno, details)}; is meshd running there?`;
    }
    case Code.DeadlineExceeded:
      return `meshd at ${where} did not answer in time`;
    case Code.Canceled:
      return `the call to meshd at ${where} was cancelled`;
    case Code.Unimplemented:
      return `meshd at ${where} does not support this call (another version, or not a manager): ${details}`;
    case Code.ResourceExhausted:
      return `a message to or from meshd at ${where} is too big: ${details}`;
    default:
      return `meshd at ${where}: ${details}`;
  }
}

/** The libraries wrap the reason in prose that does not help a person. */
function reason(errno: string | undefined, details: string): string {
  if (errno === 'ENOENT') return 'no such socket';
  if (errno === 'ECONNREFUSED') return 'connection refused';
  return errno ?? (details || 'no connection');
}
