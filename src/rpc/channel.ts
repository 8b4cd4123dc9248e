import {
  type ClientHttp2Session,
  type ClientHttp2Stream,
  connect,
  constants,
  type IncomingHttpHeaders,
} from 'node:http2';
import { createConnection } from 'node:net';
import { messageOf } from '../base/errors.ts';
import { KEEPALIVE_TIME, KEEPALIVE_TIMEOUT, REPLY_LIMIT } from './limits.ts';
import { RETRY_KEY, type ServiceError, STATUS } from './status.ts';
import { messages } from './stream.ts';

/*
 * gRPC over HTTP/2 as far as calls with one request need it (grpc/grpc, doc/PROTOCOL-HTTP2.md): loading grpc-js takes
 * longer than all else that a verb of meshctl does.
 */

/** A method of a generated service. */
export interface Method<I, O> {
  path: string;
  requestSerialize(value: I): Buffer;
  responseDeserialize(bytes: Buffer): O;
}

export interface Channel {
  /** Messages of the reply, one or many; throws ServiceError. Cancelled when its reader leaves. */
  call<I, O>(method: Method<I, O>, request: I, options: { timeout?: number; signal?: AbortSignal }): AsyncGenerator<O>;
  /** Ends calls under way. */
  close(): void;
}

/** Connects at the first call, and anew after a connection was lost. `target`: a path, or `host:port`. */
export function openChannel(target: string): Channel {
  let session: ClientHttp2Session | undefined;
  let failure: Error | undefined;

  function connected(): ClientHttp2Session {
    if (session !== undefined && !session.closed && !session.destroyed) return session;
    failure = undefined;
    const made = connect('http://localhost', { createConnection: () => dial(target) });
    made.on('error', (error) => {
      failure = error;
    });
    keepAlive(made);
    session = made;
    return made;
  }

  async function* call<I, O>(
    method: Method<I, O>,
    request: I,
    { timeout, signal }: { timeout?: number; signal?: AbortSignal },
  ): AsyncGenerator<O> {
    if (signal?.aborted) throw serviceError(STATUS.CANCELLED, 'cancelled before it was sent');
    const stream = connected().request({
      ':method': 'POST',
      ':path': method.path,
      'content-type': 'application/grpc',
      te: 'trailers',
      ...(timeout === undefined ? {} : { 'grpc-timeout': `${Math.ceil(timeout)}m` }),
    });
    let status: IncomingHttpHeaders = {};
    let given: ServiceError | undefined;
    const giveUp = (code: number, details: string) => {
      given ??= serviceError(code, details);
      stream.close(constants.NGHTTP2_CANCEL);
    };
    const cancel = () => giveUp(STATUS.CANCELLED, 'cancelled');
    const late = () => giveUp(STATUS.DEADLINE_EXCEEDED, `nothing came within ${timeout} ms`);
    const timer = timeout === undefined ? undefined : setTimeout(late, timeout);
    signal?.addEventListener('abort', cancel, { once: true });
    stream.on('response', (headers) => {
      status = headers;
    });
    stream.on('trailers', (trailers) => {
      status = { ...status, ...trailers };
    });
    stream.on('error', () => {}); // told below, also when its reader has left
    stream.end(framed(method.requestSerialize(request)));
    try {
      for await (const message of messagesOf(stream)) yield method.responseDeserialize(message);
    } catch (thrown) {
      given ??= isServiceError(thrown) ? thrown : undefined;
      failure ??= thrown as Error;
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      if (!stream.closed) stream.close(constants.NGHTTP2_CANCEL);
    }
    const error = given ?? errorOf(status, failure);
    if (error !== undefined) throw error;
  }

  return {
    call,
    close: () => session?.destroy(),
  };
}

function dial(target: string) {
  if (target.startsWith('/')) return createConnection({ path: target });
  const colon = target.lastIndexOf(':');
  return createConnection({
    host: target.slice(0, colon).replace(/^\[|\]$/g, ''),
    port: Number(target.slice(colon + 1)),
  });
}

/** A daemon that hangs must not keep a watch waiting for ever. */
function keepAlive(session: ClientHttp2Session): void {
  const timer = setInterval(() => {
    const lost = () => session.destroy(new Error(`no answer to a ping within ${KEEPALIVE_TIMEOUT / 1000} s`));
    const patience = setTimeout(lost, KEEPALIVE_TIMEOUT);
    if (session.destroyed || !session.ping(() => clearTimeout(patience))) clearTimeout(patience);
  }, KEEPALIVE_TIME);
  timer.unref();
  session.on('close', () => clearInterval(timer));
}

/** A message on the wire: not compressed, its length, itself. */
function framed(message: Buffer): Buffer {
  const head = Buffer.alloc(HEAD);
  head.writeUInt32BE(message.length, 1);
  return Buffer.concat([head, message]);
}

const HEAD = 5;

async function* messagesOf(stream: ClientHttp2Stream): AsyncGenerator<Buffer> {
  let pieces: Buffer[] = [];
  let length = 0;
  let wanted = HEAD;
  for await (const piece of messages<Buffer>(stream, (thrown) => thrown as Error)) {
    pieces.push(piece);
    length += piece.length;
    while (length >= wanted) {
      let bytes = Buffer.concat(pieces);
      for (; bytes.length >= HEAD; bytes = bytes.subarray(wanted)) {
        wanted = HEAD + bytes.readUInt32BE(1);
        if (wanted > REPLY_LIMIT) throw serviceError(STATUS.RESOURCE_EXHAUSTED, `a reply of ${wanted} bytes`);
        if (bytes.length < wanted) break;
        yield bytes.subarray(HEAD, wanted);
      }
      if (bytes.length < HEAD) wanted = HEAD;
      pieces = [bytes];
      length = bytes.length;
    }
  }
}

/** What the headers and trailers of an ended call say; undefined when all went well. */
function errorOf(headers: IncomingHttpHeaders, failure: Error | undefined): ServiceError | undefined {
  const code = headers['grpc-status'];
  if (code === undefined) {
    const why = failure === undefined ? `HTTP status ${headers[':status'] ?? 'missing'}` : messageOf(failure);
    return serviceError(STATUS.UNAVAILABLE, why);
  }
  if (Number(code) === STATUS.OK) return undefined;
  return serviceError(Number(code), decoded(String(headers['grpc-message'] ?? '')), headers[RETRY_KEY]);
}

/** Percent-encoded UTF-8; what is not is taken as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function serviceError(code: number, details: string, retry?: unknown): ServiceError {
  const metadata = { get: (key: string) => (key === RETRY_KEY && retry !== undefined ? [retry] : []) };
  return Object.assign(new Error(details), { code, details, metadata });
}

function isServiceError(thrown: unknown): thrown is ServiceError {
  return typeof (thrown as Partial<ServiceError>).code === 'number';
}
