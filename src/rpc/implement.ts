import type { ServiceDefinition } from '@grpc/grpc-js';
import { MeshError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { type Status, toStatus } from './status.ts';
import type { Duplex } from './stream.ts';

export interface CallContext {
  /** Aborted when the caller is gone. */
  signal: AbortSignal;
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

/** A handler, whatever its method. */
export type Call = (...input: unknown[]) => unknown;

/** A service with its handlers, made by `implement`. */
export interface Implementation {
  definition: ServiceDefinition;
  /** By the names of the definition. */
  handlers: Readonly<Record<string, Call>>;
  /** What the caller gets to see of what a handler threw. */
  failed(thrown: unknown, method: string): Status;
}

/**
 * Binds handlers to a service. What they throw reaches the caller with code and text; what is not a MeshError is
 * logged, for it is a bug of ours.
 */
export function implement<S extends object>(service: S, handlers: Handlers<S>, log: Log): Implementation {
  return {
    definition: service as unknown as ServiceDefinition,
    handlers: handlers as unknown as Record<string, Call>,
    failed(thrown, call) {
      if (!(thrown instanceof MeshError)) log.error({ err: thrown, call }, 'call failed unexpectedly');
      else log.debug({ call, code: thrown.code }, thrown.message);
      return toStatus(thrown);
    },
  };
}
