import { Metadata, type StatusObject } from '@grpc/grpc-js';
import { MeshError, messageOf } from '../base/errors.ts';
import { RETRY_KEY, STATUS_OF } from './status.ts';

/** Bytes; HTTP/2 header lists are bounded, percent encoding may triple them. */
const MESSAGE_LIMIT = 8_000;

/** What a handler threw, as gRPC wants it. Anything but a MeshError becomes `internal`. */
export function toStatus(thrown: unknown): Pick<StatusObject, 'code' | 'details' | 'metadata'> {
  const error = thrown instanceof MeshError ? thrown : new MeshError('internal', messageOf(thrown));
  const metadata = new Metadata();
  metadata.set(RETRY_KEY, String(error.retry));
  return { code: STATUS_OF[error.code], details: bounded(error.message), metadata };
}

/** Well-formed Unicode of a bounded length: grpc-js percent-encodes it and throws on lone surrogates. */
function bounded(text: string): string {
  const whole = Buffer.from(text, 'utf8');
  return whole.length <= MESSAGE_LIMIT
    ? whole.toString('utf8')
    : `${whole.subarray(0, MESSAGE_LIMIT).toString('utf8')} …`;
}
