import type { Socket } from 'node:net';
import { type PeerCredentials, peerCredentials } from '../../native/index.ts';

export type { PeerCredentials };

/**
 * The process that connected to a unix socket of ours, as it was when it connected; undefined when the connection is
 * closed or is not one of a unix socket.
 */
export function peerOf(socket: Socket): PeerCredentials | undefined {
  // net.Socket has no public accessor of its descriptor; the pipe handle of libuv has `fd`, -1 when closed.
  const { fd } = (socket as Socket & { _handle?: { fd?: number } | null })._handle ?? {};
  if (fd === undefined || fd < 0) return undefined;
  try {
    return peerCredentials(fd);
  } catch (thrown) {
    if (['EINVAL', 'ENOTCONN', 'EBADF'].includes((thrown as NodeJS.ErrnoException).code ?? '')) return undefined;
    throw thrown;
  }
}
