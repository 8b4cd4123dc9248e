import type { DescMessage, DescMethod, DescService, Message, MessageShape } from '@bufbuild/protobuf';
import type { z } from 'zod';
import { MeshError } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Caller } from '../identity/caller.ts';
import { refusal } from '../identity/permissions.ts';
import { check } from './check.ts';
import { fromPlain, type Plain, toPlain } from './plain.ts';

export interface CallContext {
  /** Aborted when the caller is gone. */
  signal: AbortSignal;
  caller: Caller;
}

type Shape<D> = D extends DescMessage ? Plain<MessageShape<D>> : never;
/** What a generated method receives and returns, as plain objects. */
export type Input<M> = M extends { input: infer D } ? Shape<D> : never;
export type Output<M> = M extends { output: infer D } ? Shape<D> : never;

type Handler<M> = M extends { methodKind: 'server_streaming' }
  ? (request: Input<M>, context: CallContext) => AsyncIterable<Output<M>>
  : (request: Input<M>, context: CallContext) => Promise<Output<M>>;

/** One function per method of a generated service. What they throw reaches the caller with its code and text. */
export type Handlers<S extends { method: object }> = { [K in keyof S['method']]: Handler<S['method'][K]> };

/** A service with its handlers, made by `implement`; messages in and out, whatever the transport. Throws MeshError. */
export interface Implementation {
  desc: DescService;
  unary(method: DescMethod, request: Message, context: CallContext): Promise<Message>;
  stream(method: DescMethod, request: Message, context: CallContext): AsyncGenerator<Message>;
}

// biome-ignore lint/suspicious/noExplicitAny: handlers of all methods are called in one place
type AnyHandler = (request: any, context: CallContext) => any;

/** Binds handlers to a service: every call is permitted, then checked, then handled. */
export function implement<S extends DescService>(
  desc: S,
  checks: { [K in keyof S['method']]: z.ZodType },
  handlers: Handlers<S>,
  log: Log,
): Implementation {
  const begin = (method: DescMethod, request: Message, context: CallContext) => {
    authorize(method, context.caller);
    const checked = check((checks as Record<string, z.ZodType>)[method.localName]!, toPlain(method.input, request), '');
    return (handlers as Record<string, AnyHandler>)[method.localName]!(checked, context);
  };
  const failed = (thrown: unknown, method: DescMethod) => loggedError(thrown, rpcName(method), log);
  return {
    desc,
    async unary(method, request, context) {
      try {
        return fromPlain(method.output, await begin(method, request, context));
      } catch (thrown) {
        throw failed(thrown, method);
      }
    },
    async *stream(method, request, context) {
      try {
        for await (const reply of begin(method, request, context)) yield fromPlain(method.output, reply);
      } catch (thrown) {
        throw failed(thrown, method);
      }
    },
  };
}

/** `meshd.v1.Control/Apply` */
export function rpcName(method: DescMethod): string {
  return `${method.parent.typeName}/${method.name}`;
}

/** Throws MeshError `permission` with what to do. */
export function authorize(method: DescMethod, caller: Caller): void {
  const refused = refusal(rpcName(method), caller);
  if (refused !== undefined) throw new MeshError('permission', refused);
}

/** What was thrown as a MeshError; anything else is a bug of ours and logged as one. */
export function loggedError(thrown: unknown, call: string, log: Log): MeshError {
  if (thrown instanceof MeshError) {
    log.debug({ call, code: thrown.code }, thrown.message);
    return thrown;
  }
  log.error({ err: thrown, call }, 'call failed unexpectedly');
  return new MeshError('internal', thrown instanceof Error ? thrown.message : String(thrown));
}
