import type { Result } from '../../base/errors.ts';
import type { NetlinkMessage } from '../../netlink/message.ts';

/**
 * Decodes what can be decoded. Dumps and events carry entries of families that are never ours (multicast routing,
 * MPLS, infiniband); those are errors of the decoder and left out.
 */
export function decodeAll<T>(messages: readonly NetlinkMessage[], decode: (message: NetlinkMessage) => Result<T>): T[] {
  const values: T[] = [];
  for (const message of messages) {
    const decoded = decode(message);
    if (decoded.ok) values.push(decoded.value);
  }
  return values;
}
