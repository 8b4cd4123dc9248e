import type { Server as WebServer } from 'node:http';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import { logVerbosity, Server, ServerCredentials, setLogVerbosity } from '@grpc/grpc-js';
import { MeshError, messageOf } from '../base/errors.ts';
import { grpcHandlers } from './grpc-handlers.ts';
import type { Implementation } from './implement.ts';
import { REQUEST_PATIENCE, serverOptions } from './limits.ts';
import { claimSocket } from './unix-socket.ts';
import { webServer } from './web-server.ts';

/** grpc-js writes failures to standard error that we report ourselves. */
setLogVerbosity(logVerbosity.NONE);

export type ListenAddress =
  /** A unix socket; `mode` as in chmod: 0o660 lets the group of the file in. */
  | { path: string; mode: number }
  /** `0.0.0.0:2377`, `[::1]:0`. */
  | { tcp: string };

export interface RunningServer {
  /** Where it really listens: a path, or host:port with the port the kernel chose. */
  address: string;
  /** Ends all streams and stops; a unix socket is removed if it is still ours. */
  stop(): Promise<void>;
}

/**
 * Starts a gRPC server; on a unix socket it answers gRPC-Web too (meshctl, curl). Errors: `conflict` when something
 * answers there already or the path is not a socket, `permission`, `invalid` for an address that cannot be. `patience`: ms of silence before a
 * request of gRPC-Web is whole.
 */
export async function startServer(
  listen: ListenAddress,
  services: readonly Implementation[],
  patience = REQUEST_PATIENCE,
): Promise<RunningServer> {
  const grpc = new Server(serverOptions);
  for (const service of services) grpc.addService(service.definition, grpcHandlers(service));
  if ('tcp' in listen) {
    const port = await bindTcp(grpc, listen.tcp);
    return { address: listen.tcp.replace(/:\d+$/, `:${port}`), stop: () => stopGrpc(grpc) };
  }
  const door = frontDoor(grpc, webServer(services), patience);
  const socket = await claimSocket(listen.path, listen.mode, (path) => bindPath(door.server, path, listen.path));
  return {
    address: listen.path,
    async stop() {
      await Promise.all([door.stop(), stopGrpc(grpc)]);
      await socket.release();
    },
  };
}

function bindTcp(server: Server, target: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(target, ServerCredentials.createInsecure(), (error, port) =>
      error === null ? resolve(port) : reject(notBound(error, target)),
    );
  });
}

function bindPath(server: NetServer, path: string, name: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (error) => reject(notBound(error, name)));
    server.listen({ path }, resolve);
  });
}

function notBound(error: unknown, name: string): MeshError {
  const text = messageOf(error);
  if (/EADDRINUSE/.test(text))
    return new MeshError('conflict', `${name} is in use by another process: stop it, or choose another address`);
  if (/EACCES|EPERM/.test(text))
    return new MeshError('permission', `no permission to listen on ${name}: run as root or choose another address`);
  return new MeshError('invalid', `cannot listen on ${name}: ${text}`);
}

/** First bytes of a connection that is HTTP/2 (RFC 9113, 3.4); no method of HTTP/1 begins so. */
const PREFACE = 'PRI ';

/** One socket for both: who begins with HTTP/2 goes to gRPC, all others to gRPC-Web. */
function frontDoor(grpc: Server, web: WebServer, patience: number): { server: NetServer; stop(): Promise<void> } {
  const injector = grpc.createConnectionInjector(ServerCredentials.createInsecure());
  const visitors = new Set<Socket>();
  const sort = (socket: Socket) => {
    const first: Buffer | null = socket.read(PREFACE.length);
    if (first === null) return void socket.once('readable', () => sort(socket));
    socket.unshift(first);
    if (first.toString('latin1') !== PREFACE) return void web.emit('connection', socket);
    socket.setTimeout(0); // gRPC has pings
    injector.injectConnection(socket);
  };
  const server = createServer((socket) => {
    visitors.add(socket);
    socket.once('close', () => visitors.delete(socket));
    socket.on('error', () => {}); // its reader, if there is one, gets to know by itself
    socket.setTimeout(patience, () => socket.destroy());
    sort(socket);
  });
  const destroy = () => {
    for (const socket of visitors) socket.destroy();
  };
  return { server, stop: () => ended((done) => server.close(done), destroy) };
}

/** Calls in flight get a moment to end; streams never do by themselves. */
const STOP_GRACE = 500;

function ended(close: (done: () => void) => void, force: () => void): Promise<void> {
  return new Promise((resolve) => {
    const late = setTimeout(force, STOP_GRACE);
    close(() => {
      clearTimeout(late);
      resolve();
    });
  });
}

function stopGrpc(server: Server): Promise<void> {
  return ended(
    (done) => server.tryShutdown(done),
    () => server.forceShutdown(),
  );
}
