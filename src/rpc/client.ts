import type { DescMethod, DescService, Message } from '@bufbuild/protobuf';
import { Code, ConnectError, createClient } from '@connectrpc/connect';
import { createTransport } from '@connectrpc/connect/protocol-connect';
import { fromConnectError } from './connect-errors.ts';
import { Control, Local } from './gen/mesh_pb.js';
import { KEEPALIVE_TIME, KEEPALIVE_TIMEOUT, REPLY_LIMIT } from './limits.ts';
import { fromPlain, toPlain } from './plain.ts';
import type { Input, Output } from './service.ts';
import { type UnixHttp, unixHttp } from './unix-http.ts';

export interface CallSettings {
  /** Milliseconds; the default is 10 s for calls, none for streams. */
  timeout?: number;
  /** Cancels the call. */
  signal?: AbortSignal;
}

/** A service as promise and async-iterable functions. All of them throw MeshError only. */
type Calls<S extends { method: object }> = {
  [K in keyof S['method']]: S['method'][K] extends { methodKind: 'server_streaming' }
    ? (request: Input<S['method'][K]>, settings?: CallSettings) => AsyncIterable<Output<S['method'][K]>>
    : (request: Input<S['method'][K]>, settings?: CallSettings) => Promise<Output<S['method'][K]>>;
} & { close(): void };

export type ControlConnection = Calls<typeof Control>;
export type LocalConnection = Calls<typeof Local>;

/** How often (ms) the server of a call without a timeout is asked whether it is alive, and how long it may take to answer. */
interface Keepalive {
  time: number;
  timeout: number;
}

/** `address`: a path of a unix socket (`/run/meshd/meshd.sock`, with or without `unix://`). Connects at the first call. */
export function connectControl(address: string, keepalive?: Keepalive): ControlConnection {
  return calls(Control, address, keepalive);
}

/** As connectControl, for the meshd on this machine. */
export function connectLocal(address: string): LocalConnection {
  return calls(Local, address);
}

const DEFAULT_TIMEOUT = 10_000;

type AnyCall = (message: Message, options: { timeoutMs?: number; signal?: AbortSignal }) => unknown;

function calls<S extends DescService>(
  service: S,
  address: string,
  keepalive: Keepalive = { time: KEEPALIVE_TIME, timeout: KEEPALIVE_TIMEOUT },
): Calls<S> {
  const http = unixHttp(address.replace(/^unix:(\/\/)?/, ''));
  const transport = createTransport({
    httpClient: http.call,
    baseUrl: 'http://meshd',
    useBinaryFormat: true,
    interceptors: [],
    acceptCompression: [],
    sendCompression: null,
    compressMinBytes: 0,
    readMaxBytes: REPLY_LIMIT,
    writeMaxBytes: REPLY_LIMIT,
  });
  const client = createClient(service, transport) as Record<string, AnyCall>;
  const made: Record<string, unknown> = { close: () => http.close() };
  for (const method of service.methods) {
    const call = client[method.localName]!;
    made[method.localName] =
      method.methodKind === 'server_streaming'
        ? (request: never, settings: CallSettings = {}) =>
            stream(call, method, request, settings, address, http, keepalive)
        : (request: never, settings: CallSettings = {}) => unary(call, method, request, settings, address);
  }
  return made as Calls<S>;
}

async function unary(call: AnyCall, method: DescMethod, request: never, settings: CallSettings, where: string) {
  const { timeout: timeoutMs = DEFAULT_TIMEOUT, signal } = settings;
  try {
    const reply = call(fromPlain(method.input, request), { timeoutMs, ...(signal && { signal }) }) as Promise<Message>;
    return toPlain(method.output, await reply);
  } catch (thrown) {
    throw fromConnectError(thrown, where);
  }
}

/** A daemon that hangs must not keep a watch waiting for ever, and a reader that leaves ends the call. */
async function* stream(
  call: AnyCall,
  method: DescMethod,
  request: never,
  { timeout: timeoutMs, signal }: CallSettings,
  where: string,
  http: UnixHttp,
  keepalive: Keepalive,
) {
  const over = new AbortController();
  const dead = (thrown: Error) => over.abort(new ConnectError(thrown.message, Code.Unavailable));
  const timer = setInterval(() => http.ping(keepalive.timeout).catch(dead), keepalive.time).unref();
  const either = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal]);
  try {
    const options = { signal: either, ...(timeoutMs !== undefined && { timeoutMs }) };
    const replies = call(fromPlain(method.input, request), options) as AsyncIterable<Message>;
    for await (const reply of replies) yield toPlain(method.output, reply);
  } catch (thrown) {
    throw fromConnectError(over.signal.aborted ? over.signal.reason : thrown, where);
  } finally {
    clearInterval(timer);
    over.abort();
  }
}
