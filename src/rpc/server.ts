import type { EventEmitter } from 'node:events';
import {
  type handleUnaryCall,
  logVerbosity,
  Server,
  ServerCredentials,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type ServiceDefinition,
  setLogVerbosity,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { serverOptions } from './limits.ts';
import { type Duplex, messages, write } from './stream.ts';
import { toStatus } from './to-status.ts';
import { claimSocket } from './unix-socket.ts';

/** grpc-js writes failures to standard error that we report ourselves. */
setLogVerbosity(logVerbosity.NONE);

interface CallContext {
  /** Aborted when the caller is gone. */
  signal: AbortSignal;
  peer: string;
}

type Input<M> = M extends { requestDeserialize: (value: Buffer) => infer I } ? I : never;
type Output<M> = M extends { responseSerialize: (value: infer O) => Buffer } ? O : never;

type Handler<M> = M extends { requestStream: true }
  ? (stream: Duplex<Input<M>, Output<M>>) => Promise<void>
  : M extends { responseStream: true }
    ? (request: Input<M>, context: CallContext) => AsyncIterable<Output<M>>
    : (request: Input<M>, context: CallContext) => Promise<Output<M>>;

/** One function per method of a generated service: promise, async iterable, or a two-way stream. */
export type Handlers<S> = { [K in keyof S]: Handler<S[K]> };

/** A service with its handlers, made by `implement`. */
export interface Implementation {
  definition: ServiceDefinition;
  handlers: UntypedServiceImplementation;
}

/**
 * Binds handlers to a service. What they throw reaches the caller with code and text; what is not a MeshError is
 * logged, for it is a bug of ours.
 */
export function implement<S extends object>(service: S, handlers: Handlers<S>, log: Log): Implementation {
  const bound: UntypedServiceImplementation = {};
  for (const [name, method] of Object.entries(service as unknown as ServiceDefinition)) {
    const call = handlers[name as keyof S] as Call;
    const failed = (thrown: unknown) => {
      if (!(thrown instanceof MeshError)) log.error({ err: thrown, call: method.path }, 'call failed unexpectedly');
      else log.debug({ call: method.path, code: thrown.code }, thrown.message);
      return toStatus(thrown);
    };
    if (method.requestStream) bound[name] = bidi(call, failed);
    else if (method.responseStream) bound[name] = serverStream(call, failed);
    else bound[name] = unary(call, failed);
  }
  return { definition: service as unknown as ServiceDefinition, handlers: bound };
}

type Call = (...input: unknown[]) => unknown;
type Failed = (thrown: unknown) => ReturnType<typeof toStatus>;

function unary(handler: Call, failed: Failed): handleUnaryCall<unknown, unknown> {
  return (call, callback) => {
    Promise.resolve()
      .then(() => handler(call.request, context(call)))
      .then(
        (reply) => callback(null, reply),
        (thrown) => callback(failed(thrown)),
      );
  };
}

function serverStream(handler: Call, failed: Failed): (call: ServerWritableStream<unknown, unknown>) => void {
  return async (call) => {
    const { signal, peer } = context(call);
    call.on('error', () => {});
    try {
      for await (const message of handler(call.request, { signal, peer }) as AsyncIterable<unknown>) {
        if (signal.aborted) return;
        await write(call, message, signal);
      }
      call.end();
    } catch (thrown) {
      if (!signal.aborted) call.emit('error', asError(failed(thrown)));
    }
  };
}

function bidi(handler: Call, failed: Failed): (call: ServerDuplexStream<unknown, unknown>) => void {
  return async (call) => {
    const { signal, peer } = context(call);
    const over = new AbortController();
    const finish = (error?: unknown) => {
      if (over.signal.aborted) return;
      over.abort();
      if (error === undefined) call.end();
      else if (!signal.aborted) call.emit('error', asError(failed(error))); // grpc-js sends it as the status
    };
    const lost = () => {
      over.abort();
      call.destroy(new Error('the other side is gone')); // grpc-js leaves its readers waiting
    };
    signal.addEventListener('abort', lost, { once: true });
    call.on('error', () => over.abort());
    const stream: Duplex<unknown, unknown> = {
      received: messages(call, broken, over.signal),
      send: (message) => write(call, message, over.signal),
      end: finish,
      closed: over.signal,
      peer,
    };
    try {
      await handler(stream);
      finish();
    } catch (thrown) {
      finish(thrown);
    }
  };
}

type AnyCall =
  | ServerUnaryCall<unknown, unknown>
  | ServerWritableStream<unknown, unknown>
  | ServerDuplexStream<unknown, unknown>;

function context(call: AnyCall): CallContext {
  const gone = new AbortController();
  (call as EventEmitter).on('cancelled', () => gone.abort());
  return { signal: gone.signal, peer: call.getPeer() };
}

function broken(thrown: unknown): MeshError {
  return new MeshError('unavailable', `the stream broke off: ${messageOf(thrown)}`);
}

function asError(status: ReturnType<typeof toStatus>): Error {
  return Object.assign(new Error(status.details), status);
}

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
 * Starts a gRPC server. Errors: `conflict` when something answers there already or the path is not a socket,
 * `permission`, `invalid` for an address that cannot be.
 */
export async function startServer(listen: ListenAddress, services: readonly Implementation[]): Promise<RunningServer> {
  const server = new Server(serverOptions);
  for (const { definition, handlers } of services) server.addService(definition, handlers);
  if ('path' in listen) {
    const socket = await claimSocket(listen.path, listen.mode, (path) => bind(server, `unix:${path}`, listen.path));
    return { address: listen.path, stop: () => stop(server).then(() => socket.release()) };
  }
  const port = await bind(server, listen.tcp, listen.tcp);
  return { address: listen.tcp.replace(/:\d+$/, `:${port}`), stop: () => stop(server) };
}

function bind(server: Server, target: string, name: string): Promise<number> {
  return new Promise((resolve, reject) => {
    server.bindAsync(target, ServerCredentials.createInsecure(), (error, port) => {
      if (error === null) return resolve(port);
      const text = messageOf(error);
      if (/EADDRINUSE/.test(text))
        reject(new MeshError('conflict', `${name} is in use by another process: stop it, or choose another address`));
      else if (/EACCES|EPERM/.test(text))
        reject(
          new MeshError('permission', `no permission to listen on ${name}: run as root or choose another address`),
        );
      else reject(new MeshError('invalid', `cannot listen on ${name}: ${text}`));
    });
  });
}

/** Calls in flight get a moment to end; streams never do by themselves. */
const STOP_GRACE = 500;

function stop(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const force = setTimeout(() => server.forceShutdown(), STOP_GRACE);
    server.tryShutdown(() => {
      clearTimeout(force);
      resolve();
    });
  });
}
