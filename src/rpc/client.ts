import { type Channel, type Method, openChannel } from './channel.ts';
import { ControlService, LocalService } from './gen/mesh.ts';
import { fromStatus } from './status.ts';

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

/** `address`: a path of a unix socket (`/run/meshd/meshd.sock`, with or without `unix://`). Connects at each call. */
export function connectControl(address: string): ControlConnection {
  return calls(ControlService, address);
}

/** As connectControl, for the meshd on this machine. */
export function connectLocal(address: string): LocalConnection {
  return calls(LocalService, address);
}

const DEFAULT_TIMEOUT = 10_000;

function calls<S extends object>(service: S, address: string): Calls<S> {
  const channel = openChannel(address.replace(/^unix:(\/\/)?/, ''));
  const made: Record<string, unknown> = { close: () => channel.close() };
  for (const [name, method] of Object.entries(service) as [string, AnyMethod][]) {
    if (method.requestStream) continue;
    made[name] = method.responseStream
      ? (request: unknown, settings: CallSettings = {}) => stream(channel, method, request, settings, address)
      : (request: unknown, settings: CallSettings = {}) => unary(channel, method, request, settings, address);
  }
  return made as Calls<S>;
}

type AnyMethod = Method<unknown, unknown> & { requestStream: boolean; responseStream: boolean };

async function unary<I, O>(
  channel: Channel,
  method: Method<I, O>,
  request: I,
  settings: CallSettings,
  where: string,
): Promise<O> {
  let reply: O | undefined;
  for await (reply of stream(channel, method, request, { timeout: DEFAULT_TIMEOUT, ...settings }, where));
  return reply!;
}

async function* stream<I, O>(
  channel: Channel,
  method: Method<I, O>,
  request: I,
  settings: CallSettings,
  where: string,
): AsyncGenerator<O> {
  try {
    yield* channel.call(method, request, settings);
  } catch (thrown) {
    throw fromStatus(thrown, where);
  }
}
