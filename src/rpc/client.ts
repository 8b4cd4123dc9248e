import {
  type CallOptions,
  Client,
  type ClientDuplexStream,
  type ClientReadableStream,
  credentials,
  Metadata,
  type MethodDefinition,
  type ServiceDefinition,
} from '@grpc/grpc-js';
import type { AgentMessage, ManagerMessage } from './gen/mesh.ts';
import { ControlService, DispatchService, LocalService } from './gen/mesh.ts';
import { clientOptions } from './limits.ts';
import { fromStatus } from './status.ts';
import { type Duplex, messages, write } from './stream.ts';

export interface CallSettings {
  /** Milliseconds; the default is 10 s for calls, none for streams. */
  timeout?: number;
  /** Cancels the call. */
  signal?: AbortSignal;
}

type Unary = { requestStream: false; responseStream: false };
type ServerStream = { requestStream: false; responseStream: true };
type Input<M> = M extends { requestSerialize: (value: infer I) => Buffer } ? I : never;
type Output<M> = M extends { responseDeserialize: (value: Buffer) => infer O } ? O : never;

/** A service definition as promise and async-iterable functions. All of them throw MeshError only. */
type Calls<S> = {
  [K in keyof S as S[K] extends Unary | ServerStream ? K : never]: S[K] extends Unary
    ? (request: Input<S[K]>, settings?: CallSettings) => Promise<Output<S[K]>>
    : (request: Input<S[K]>, settings?: CallSettings) => AsyncIterable<Output<S[K]>>;
} & { close(): void };

export type ControlConnection = Calls<typeof ControlService>;
export type LocalConnection = Calls<typeof LocalService>;

export interface DispatchConnection {
  /** Opens the agent's session. Errors (also of the connection) come out of `received`. */
  session(): Duplex<ManagerMessage, AgentMessage>;
  close(): void;
}

/** `address`: a path of a unix socket (`/run/meshd/meshd.sock`, with or without `unix://`) or `host:port`. Connects at the first call. */
export function connectControl(address: string): ControlConnection {
  return calls(ControlService, address);
}

/** As connectControl, for the meshd on this machine. */
export function connectLocal(address: string): LocalConnection {
  return calls(LocalService, address);
}

/** As connectControl, for an agent's stream to a manager. */
export function connectDispatch(address: string): DispatchConnection {
  const client = open(address);
  return {
    session: () => {
      const method = DispatchService.session;
      const call = client.makeBidiStreamRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        new Metadata(),
        {},
      );
      return duplex(call, address);
    },
    close: () => client.close(),
  };
}

const DEFAULT_TIMEOUT = 10_000;

function open(address: string): Client {
  const target = address.startsWith('/') ? `unix:${address}` : address.replace(/^unix:\/\//, 'unix:');
  return new Client(target, credentials.createInsecure(), clientOptions);
}

function calls<S extends object>(service: S, address: string): Calls<S> {
  const client = open(address);
  const made: Record<string, unknown> = { close: () => client.close() };
  for (const [name, method] of Object.entries(service as unknown as ServiceDefinition)) {
    if (method.requestStream) continue;
    made[name] = method.responseStream
      ? (request: never, settings: CallSettings = {}) => stream(client, method, request, settings, address)
      : (request: never, settings: CallSettings = {}) => unary(client, method, request, settings, address);
  }
  return made as Calls<S>;
}

function unary<I, O>(
  client: Client,
  method: MethodDefinition<I, O>,
  request: I,
  settings: CallSettings,
  where: string,
): Promise<O> {
  return new Promise((resolve, reject) => {
    const options: CallOptions = { deadline: Date.now() + (settings.timeout ?? DEFAULT_TIMEOUT) };
    const call = client.makeUnaryRequest<I, O>(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      request,
      new Metadata(),
      options,
      (error, reply) => {
        settings.signal?.removeEventListener('abort', cancel);
        if (error) reject(fromStatus(error, where));
        else resolve(reply as O);
      },
    );
    const cancel = () => call.cancel();
    if (settings.signal?.aborted) cancel();
    settings.signal?.addEventListener('abort', cancel, { once: true });
  });
}

async function* stream<I, O>(
  client: Client,
  method: MethodDefinition<I, O>,
  request: I,
  settings: CallSettings,
  where: string,
): AsyncGenerator<O> {
  const options: CallOptions = settings.timeout === undefined ? {} : { deadline: Date.now() + settings.timeout };
  const call: ClientReadableStream<O> = client.makeServerStreamRequest(
    method.path,
    method.requestSerialize,
    method.responseDeserialize,
    request,
    new Metadata(),
    options,
  );
  const cancel = () => call.cancel();
  if (settings.signal?.aborted) cancel();
  settings.signal?.addEventListener('abort', cancel, { once: true });
  try {
    yield* messages<O>(call, (thrown) => fromStatus(thrown, where));
  } finally {
    settings.signal?.removeEventListener('abort', cancel);
    // A reader that leaves early must not leave the stream open; the late CANCELLED has nobody to go to.
    call.on('error', () => {});
    call.cancel();
  }
}

function duplex<In, Out>(call: ClientDuplexStream<Out, In>, where: string): Duplex<In, Out> {
  const over = new AbortController();
  call.on('status', () => over.abort());
  call.on('error', () => over.abort());
  return {
    received: messages<In>(call, (thrown) => fromStatus(thrown, where)),
    send: (message) => write(call, message, over.signal),
    end: (error) => {
      if (error) call.cancel();
      else call.end();
    },
    closed: over.signal,
    peer: where,
  };
}
