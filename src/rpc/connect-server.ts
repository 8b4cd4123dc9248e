import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { DescMethod, DescService, Message } from '@bufbuild/protobuf';
import {
  createConnectRouter,
  createContextKey,
  createContextValues,
  type HandlerContext,
  type ServiceImpl,
} from '@connectrpc/connect';
import type { UniversalHandler } from '@connectrpc/connect/protocol';
import { universalRequestFromNodeRequest, universalResponseToNodeResponse } from '@connectrpc/connect-node';
import { createConnectionLimit } from '../base/connection-limit.ts';
import { type MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Caller, localCaller } from '../identity/caller.ts';
import { toConnectError } from './connect-errors.ts';
import { CONNECTIONS, HEADER_LIMIT, REPLY_LIMIT, REQUEST_LIMIT } from './limits.ts';
import type { CallContext, Implementation } from './service.ts';

/** Until it is known otherwise, a caller has no access. */
const callerKey = createContextKey<Caller>(localCaller(undefined, { uid: -1, group: undefined }));

export interface ConnectOptions {
  /** Who is at the other end. */
  callerOf(socket: Socket): Caller;
  /** Milliseconds to a whole request. */
  requestTimeout: number;
  /** Milliseconds after which a peer that reads nothing is closed. */
  sendTimeout: number;
  log: Log;
}

/** Serves people over HTTP/1.1: Connect with binary or JSON messages, whose keys are those of mesh.proto. */
export function connectServer(services: readonly Implementation[], options: ConnectOptions): Server {
  const { requestTimeout } = options;
  const callers = new WeakMap<Socket, Caller>();
  const handlers = handlersByPath(services);
  const server = createServer(
    {
      maxHeaderSize: HEADER_LIMIT,
      requestTimeout,
      headersTimeout: requestTimeout,
      connectionsCheckingInterval: Math.min(1_000, requestTimeout),
    },
    (request, response) => {
      // Connect makes a URL of it, and what is not one would throw.
      request.headers.host = 'meshd';
      closeWhenStuck(response, request.socket, options.sendTimeout, options.log);
      const handler = handlers.get(request.url?.split('?')[0] ?? '');
      if (handler === undefined) refuseUnknownCall(request, response);
      else void handleCall(handler, request, response, callers.get(request.socket)!, options.log);
    },
  );
  const limitConnection = createConnectionLimit(CONNECTIONS);
  server.on('connection', (socket) => {
    const caller = options.callerOf(socket);
    callers.set(socket, caller);
    limitConnection(socket, userOf(caller));
  });
  return server;
}

/** Whose connections are counted together: those of one user; all users without access are one. */
function userOf(caller: Caller): string {
  return caller.kind === 'local' && caller.access !== 'none' ? `${caller.uid}` : 'others';
}

function handlersByPath(services: readonly Implementation[]): Map<string, UniversalHandler> {
  const router = createConnectRouter({
    connect: true,
    grpc: false,
    grpcWeb: false,
    acceptCompression: [], // a few bytes must not become gigabytes
    readMaxBytes: REQUEST_LIMIT,
    writeMaxBytes: REPLY_LIMIT,
    jsonOptions: { useProtoFieldName: true, alwaysEmitImplicit: true },
  });
  for (const service of services) router.service(service.desc, bound(service));
  return new Map(router.handlers.map((handler) => [handler.requestPath, handler]));
}

/**
 * Answers one request. connectNodeAdapter is not used because it takes a connection that is closed during a write
 * (ECANCELED) for a failure of the handler, and prints that on standard error.
 */
async function handleCall(
  handler: UniversalHandler,
  request: IncomingMessage,
  response: ServerResponse,
  caller: Caller,
  log: Log,
): Promise<void> {
  try {
    const contextValues = createContextValues().set(callerKey, caller);
    const reply = await handler(universalRequestFromNodeRequest(request, response, undefined, contextValues));
    await universalResponseToNodeResponse(reply, response);
  } catch (thrown) {
    if (request.socket.destroyed) return; // the peer left, or was closed
    log.error({ err: thrown }, `${handler.service.typeName}.${handler.method.name} failed: ${messageOf(thrown)}`);
    response.destroy();
  }
}

function refuseUnknownCall(request: IncomingMessage, response: ServerResponse): void {
  const body = JSON.stringify({ code: 'unimplemented', message: `no such call: ${request.method} ${request.url}` });
  response.writeHead(404, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) });
  response.end(body);
}

/** The implementation as Connect has it. */
function bound(service: Implementation): Partial<ServiceImpl<DescService>> {
  const methods: Record<string, unknown> = {};
  for (const method of service.desc.methods) {
    methods[method.localName] =
      method.methodKind === 'server_streaming'
        ? (request: Message, context: HandlerContext) => streamed(service, method, request, context)
        : (request: Message, context: HandlerContext) =>
            service.unary(method, request, contextOf(context)).catch((thrown: MeshError) => {
              throw toConnectError(thrown);
            });
  }
  return methods as Partial<ServiceImpl<DescService>>;
}

async function* streamed(
  service: Implementation,
  method: DescMethod,
  request: Message,
  context: HandlerContext,
): AsyncGenerator<Message> {
  const replies = service.stream(method, request, contextOf(context));
  // connect-node waits for ever to write to a connection that was closed, and never returns to this generator.
  context.signal.addEventListener('abort', () => void replies.return(undefined));
  try {
    yield* replies;
  } catch (thrown) {
    throw toConnectError(thrown as MeshError);
  }
}

/** Closes a connection whose peer has taken nothing of what waits for it in a whole `timeout` (ms). */
function closeWhenStuck(response: ServerResponse, socket: Socket, timeout: number, log: Log): void {
  let before = 0;
  const timer = setInterval(() => {
    const waiting = socket.writableLength;
    if (waiting > 0 && before === waiting) {
      log.warn({ waiting }, `closing a connection whose peer has read nothing for ${timeout / 1_000} s`);
      socket.destroy();
    }
    before = waiting;
  }, timeout);
  response.on('close', () => clearInterval(timer));
}

function contextOf({ signal, values }: HandlerContext): CallContext {
  return { signal, caller: values.get(callerKey) };
}
