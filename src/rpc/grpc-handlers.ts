import type { EventEmitter } from 'node:events';
import {
  type handleUnaryCall,
  Metadata,
  type ServerDuplexStream,
  type ServerUnaryCall,
  type ServerWritableStream,
  type StatusObject,
  type UntypedServiceImplementation,
} from '@grpc/grpc-js';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Call, CallContext, Implementation } from './implement.ts';
import { RETRY_KEY, type Status } from './status.ts';
import { type Duplex, messages, write } from './stream.ts';

/** The same handlers as grpc-js wants them. */
export function grpcHandlers({ definition, handlers, failed }: Implementation): UntypedServiceImplementation {
  const bound: UntypedServiceImplementation = {};
  for (const [name, method] of Object.entries(definition)) {
    const handler = handlers[name]!;
    const status = (thrown: unknown) => grpcStatus(failed(thrown, method.path));
    if (method.requestStream) bound[name] = bidi(handler, status);
    else if (method.responseStream) bound[name] = serverStream(handler, status);
    else bound[name] = unary(handler, status);
  }
  return bound;
}

type GrpcStatus = Pick<StatusObject, 'code' | 'details' | 'metadata'>;
type Failed = (thrown: unknown) => GrpcStatus;

function grpcStatus({ code, details, retry }: Status): GrpcStatus {
  const metadata = new Metadata();
  if (retry !== undefined) metadata.set(RETRY_KEY, String(retry));
  return { code, details, metadata };
}

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
    const { signal } = context(call);
    call.on('error', () => {});
    try {
      for await (const message of handler(call.request, { signal }) as AsyncIterable<unknown>) {
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
    const { signal } = context(call);
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
      peer: call.getPeer(),
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
  return { signal: gone.signal };
}

function broken(thrown: unknown): MeshError {
  return new MeshError('unavailable', `the stream broke off: ${messageOf(thrown)}`);
}

function asError(status: GrpcStatus): Error {
  return Object.assign(new Error(status.details), status);
}
