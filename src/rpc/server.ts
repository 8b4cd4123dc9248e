import type { Server as NetServer, Socket } from 'node:net';
import { ServerCredentials } from '@grpc/grpc-js';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Caller } from '../identity/caller.ts';
import { formatHostPort, parseHostPort } from '../model/host-port.ts';
import { connectServer } from './connect-server.ts';
import { dispatchServer, type SessionHandler, STOP_GRACE, stopGrpc, unixDispatchServer } from './grpc-server.ts';
import { REQUEST_TIMEOUT, SEND_QUEUE } from './limits.ts';
import type { Implementation } from './service.ts';
import { type ClaimedSocket, keepSocket, type SocketFile } from './unix-socket.ts';

export interface RunningServer {
  /** Where it really listens: a path, or host:port with the port the kernel chose. */
  address: string;
  /** Ends all streams and stops; a unix socket is removed if it is still ours. */
  stop(): Promise<void>;
}

export interface ServeOptions {
  /** Who is at the other end of a connection. */
  callerOf(socket: Socket): Caller;
  log: Log;
  /** Makes the directory of the socket again when it was removed. */
  prepareDirectory?(path: string): void;
  /** Milliseconds between two checks whether the socket has to be created again; for tests. */
  checkInterval?: number;
  /** Milliseconds to a whole request; for tests. */
  requestTimeout?: number;
  /** Milliseconds after which a peer that reads nothing is closed; for tests. */
  sendTimeout?: number;
}

/**
 * Serves people on a unix socket: Connect over HTTP/1.1, with JSON for curl. Errors: `conflict` when another process
 * answers there or the path is not a socket, `permission`, `invalid`.
 */
export async function servePeople(
  file: SocketFile,
  services: readonly Implementation[],
  options: ServeOptions,
): Promise<RunningServer> {
  const { requestTimeout = REQUEST_TIMEOUT, sendTimeout = SEND_QUEUE.timeout } = options;
  const server = connectServer(services, { ...options, requestTimeout, sendTimeout });
  const socket = await listenOnSocket(server, file, options);
  return {
    address: file.path,
    async stop() {
      const late = setTimeout(() => server.closeAllConnections(), STOP_GRACE);
      await socket.release();
      await new Promise((resolve) => {
        server.close(resolve);
        server.closeIdleConnections();
      });
      clearTimeout(late);
    },
  };
}

/** Serves the agent of this machine on a unix socket: gRPC. Errors as of servePeople. */
export async function serveLocalAgent(
  file: SocketFile,
  handler: SessionHandler,
  options: ServeOptions,
): Promise<RunningServer> {
  const { server, stop } = unixDispatchServer(handler, options.callerOf, options.log);
  const socket = await listenOnSocket(server, file, options);
  return {
    address: file.path,
    async stop() {
      await socket.release();
      await stop();
    },
  };
}

/** Listens on the socket until it is released, also after its file was removed. Open connections are kept. */
function listenOnSocket(server: NetServer, file: SocketFile, options: ServeOptions): Promise<ClaimedSocket> {
  const { log, prepareDirectory, checkInterval: interval } = options;
  const bind = (path: string) => {
    if (server.listening) server.close();
    return listen(server, path, file.path);
  };
  return keepSocket(file, bind, { log, prepareDirectory, interval });
}

/**
 * Serves agents of other machines without any proof of who they are, at `0.0.0.0:2377` or `[::1]:0`. Errors: `conflict`
 * when the address is in use, `permission`, `invalid`.
 */
export async function serveInsecureAgents(address: string, handler: SessionHandler, log: Log): Promise<RunningServer> {
  const server = dispatchServer(handler, { kind: 'node' }, log);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync(address, ServerCredentials.createInsecure(), (error, bound) =>
      error === null ? resolve(bound) : reject(listenError(error, address)),
    );
  });
  const host = parseHostPort(address)?.host ?? address;
  return { address: formatHostPort(host, port), stop: () => stopGrpc(server) };
}

function listen(server: NetServer, path: string, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const fail = (error: Error) => reject(listenError(error, name));
    server.once('error', fail);
    server.listen({ path }, () => {
      server.off('error', fail);
      resolve();
    });
  });
}

function listenError(error: unknown, name: string): MeshError {
  const text = messageOf(error);
  if (/EADDRINUSE/.test(text))
    return new MeshError('conflict', `${name} is in use by another process: stop it, or choose another address`);
  if (/EACCES|EPERM/.test(text))
    return new MeshError('permission', `no permission to listen on ${name}: run as root or choose another address`);
  return new MeshError('invalid', `cannot listen on ${name}: ${text}`);
}
