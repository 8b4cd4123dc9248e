import { ConnectError } from '@connectrpc/connect';
import { MeshError } from '../base/errors.ts';
import { fromStatus, RETRY_KEY, toStatus } from './status.ts';

export function toConnectError(error: MeshError): ConnectError {
  const { code, details, retry } = toStatus(error);
  return new ConnectError(details, code, { [RETRY_KEY]: retry });
}

/** Anything that a call of a Connect client throws, as ours. */
export function fromConnectError(thrown: unknown, where: string): MeshError {
  if (thrown instanceof MeshError) return thrown;
  const { code, rawMessage: details, metadata, cause } = ConnectError.from(thrown);
  const retry = metadata.get(RETRY_KEY);
  return fromStatus({ code, details, cause: cause ?? thrown, ...(retry === null ? {} : { retry }) }, where);
}
