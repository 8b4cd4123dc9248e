import type { EventEmitter } from 'node:events';
import { createServer, type Server as NetServer, type Socket } from 'node:net';
import {
  type ConnectionInjector,
  logVerbosity,
  Metadata,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  setLogVerbosity,
} from '@grpc/grpc-js';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Caller } from '../identity/caller.ts';
import { readAgentMessage, writeManagerMessage } from './dispatch-messages.ts';
import { Dispatch } from './gen/dispatch_pb.js';
import { grpcDefinition } from './grpc-service.ts';
import { serverOptions } from './limits.ts';
import type { AgentMessage, ManagerMessage } from './messages.ts';
import { createSendQueue } from './send-queue.ts';
import { authorize, loggedError, rpcName } from './service.ts';
import { messages, type ServerSession } from './session.ts';
import { RETRY_KEY, toStatus } from './status.ts';

/** grpc-js writes failures to standard error that we report ourselves. */
setLogVerbosity(logVerbosity.NONE);

/** Serves one agent's session until it ends; what it throws ends it with that error. */
export type SessionHandler = (session: ServerSession<AgentMessage, ManagerMessage>) => Promise<void>;

type AgentCall = ServerDuplexStream<Buffer, Buffer>;

/** A gRPC server for sessions of agents, all of one caller: grpc-js does not distinguish connections. */
export function dispatchServer(handler: SessionHandler, caller: Caller, log: Log): Server {
  const server = new Server(serverOptions);
  server.addService(grpcDefinition(Dispatch), {
    session: (call: AgentCall) => serve(call, handler, caller, log),
  });
  return server;
}

async function serve(call: AgentCall, handler: SessionHandler, caller: Caller, log: Log): Promise<void> {
  const over = new AbortController();
  const method = Dispatch.method.session;
  const queue = createSendQueue(call, over.signal, (reason) => {
    finish(reason);
    call.destroy(reason); // its status would wait behind what is not read
  });
  const finish = (thrown?: unknown) => {
    if (over.signal.aborted) return;
    if (thrown === undefined) {
      queue.finish(() => {
        over.abort();
        call.end();
      });
      return;
    }
    over.abort();
    call.emit('error', grpcError(loggedError(thrown, rpcName(method), log))); // grpc-js sends it as the status
  };
  const lost = () => {
    over.abort();
    call.destroy(new Error('the peer closed the connection')); // grpc-js would leave its readers waiting
  };
  (call as EventEmitter).on('cancelled', lost);
  call.on('error', () => over.abort());
  try {
    authorize(method, caller);
    await handler({
      received: messages(call, readAgentMessage, broken, over.signal),
      send: (message) => queue.send(writeManagerMessage(message)),
      end: finish,
      closed: over.signal,
      peer: call.getPeer(),
      caller,
    });
    finish();
  } catch (thrown) {
    finish(thrown);
  }
}

function broken(thrown: unknown): MeshError {
  return thrown instanceof MeshError
    ? thrown
    : new MeshError('unavailable', `the stream was interrupted: ${messageOf(thrown)}`);
}

function grpcError(error: MeshError): Error {
  const { code, details, retry } = toStatus(error);
  const metadata = new Metadata();
  metadata.set(RETRY_KEY, retry);
  return Object.assign(new Error(details), { code, details, metadata });
}

/** A server on a unix socket that knows who connects: connections of each user go to a gRPC server of their own. */
export function unixDispatchServer(
  handler: SessionHandler,
  callerOf: (socket: Socket) => Caller,
  log: Log,
): { server: NetServer; stop(): Promise<void> } {
  const users = new Map<string, { grpc: Server; injector: ConnectionInjector }>();
  const of = (caller: Caller) => {
    const key = caller.kind === 'local' ? `${caller.uid} ${caller.access}` : caller.kind;
    let user = users.get(key);
    if (user === undefined) {
      const grpc = dispatchServer(handler, caller, log);
      user = { grpc, injector: grpc.createConnectionInjector(ServerCredentials.createInsecure()) };
      users.set(key, user);
    }
    return user;
  };
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('close', () => sockets.delete(socket));
    socket.on('error', () => {}); // its session, if there is one, ends by itself
    of(callerOf(socket)).injector.injectConnection(socket);
  });
  return {
    server,
    async stop() {
      const closed = new Promise((resolve) => server.close(resolve));
      await Promise.all([...users.values()].map(({ grpc }) => stopGrpc(grpc)));
      // grpc-js ends sessions; a connection that never became one would keep the server open.
      for (const socket of sockets) socket.destroy();
      await closed;
    },
  };
}

/** Calls in flight get a moment to end; streams never do by themselves. */
export const STOP_GRACE = 500;

export function stopGrpc(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const late = setTimeout(() => server.forceShutdown(), STOP_GRACE);
    server.tryShutdown(() => {
      clearTimeout(late);
      resolve();
    });
  });
}
