import { type ClientRequestArgs, type IncomingMessage, request } from 'node:http';
import { createConnection, type Socket } from 'node:net';
import { pipeline } from 'node:stream';
import { Code, ConnectError } from '@connectrpc/connect';
import type { UniversalClientFn } from '@connectrpc/connect/protocol';
import { messageOf } from '../base/errors.ts';

/**
 * What Connect asks of an HTTP client, by node:http over a unix socket. That of connect-node loads HTTP/2 and TLS with
 * it, which takes longer than a command does.
 */
export interface UnixHttp {
  call: UniversalClientFn;
  /** Resolves when the server answers anything at all within `timeout` ms, rejects otherwise. */
  ping(timeout: number): Promise<void>;
  /** Ends calls under way. */
  close(): void;
}

export function unixHttp(socketPath: string): UnixHttp {
  const sockets = new Set<Socket>();
  // A connection for each call and no Agent, which would match the name of the host against all forms of an IPv6 address:
  // compiling that expression takes 9 ms.
  const connect = ({ timeout }: ClientRequestArgs) => {
    const socket = createConnection({ path: socketPath, ...(timeout !== undefined && { timeout }) });
    sockets.add(socket);
    return socket.on('close', () => sockets.delete(socket));
  };
  return {
    call: ({ url, method, header, body, signal }) =>
      new Promise((resolve, reject) => {
        const { pathname } = new URL(url);
        const headers = Object.fromEntries(header);
        const sent = request({ createConnection: connect, path: pathname, method, headers, ...(signal && { signal }) });
        sent.on('error', (error) => reject(lost(error)));
        sent.on('response', (response) =>
          resolve({
            status: response.statusCode ?? 0,
            header: headersOf(response),
            body: bodyOf(response),
            trailer: new Headers(),
          }),
        );
        // An error of the request is reported by its own event; the server may answer before it has read everything.
        pipeline(body ?? [], sent, () => {});
      }),
    ping: (timeout) =>
      new Promise((resolve, reject) => {
        const asked = request({ createConnection: connect, path: '/', timeout }, (response) => {
          response.destroy();
          resolve();
        });
        asked.on('timeout', () => asked.destroy(new Error(`no answer within ${timeout / 1000} s`)));
        asked.on('error', reject);
        asked.end();
      }),
    close() {
      for (const socket of sockets) socket.destroy();
    },
  };
}

function headersOf(response: IncomingMessage): Headers {
  const headers = new Headers();
  for (const [name, values = []] of Object.entries(response.headersDistinct))
    for (const value of values) headers.append(name, value);
  return headers;
}

async function* bodyOf(response: IncomingMessage): AsyncGenerator<Uint8Array> {
  try {
    yield* response;
  } catch (thrown) {
    throw lost(thrown);
  }
}

function lost(thrown: unknown): ConnectError {
  return new ConnectError(messageOf(thrown), Code.Unavailable, undefined, undefined, thrown);
}
