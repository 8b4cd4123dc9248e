import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { MethodDefinition } from '@grpc/grpc-js';
import { messageOf } from '../base/errors.ts';
import type { Call, CallContext, Implementation } from './implement.ts';
import { REQUEST_LIMIT } from './limits.ts';
import { RETRY_KEY, STATUS, type Status } from './status.ts';
import { write } from './stream.ts';
import { framed, MEDIA_TYPE, PREFIX, TRAILERS } from './web-frame.ts';

/**
 * The calls of these services that have one request, as gRPC-Web over HTTP/1 (grpc/grpc, doc/PROTOCOL-WEB.md), one call a
 * connection. It is given its connections with `emit('connection', socket)`; a limit for silence that stands on one of them is
 * lifted when its request is whole.
 */
export function webServer(services: readonly Implementation[]): Server {
  const methods = new Map<string | undefined, WebMethod>();
  for (const { definition, handlers, failed } of services) {
    for (const [name, method] of Object.entries(definition)) {
      if (!method.requestStream) methods.set(method.path, { method, handler: handlers[name]!, failed });
    }
  }
  return createServer((request, response) => void answer(methods.get(request.url), request, response));
}

interface WebMethod {
  method: MethodDefinition<unknown, unknown>;
  handler: Call;
  failed: Implementation['failed'];
}

async function answer(called: WebMethod | undefined, request: IncomingMessage, response: ServerResponse) {
  const gone = new AbortController();
  response.on('close', () => gone.abort()).on('error', () => {});
  const send = (flags: number, message: Buffer) => write(response, framed(flags, message), gone.signal);
  let status: Status = { code: STATUS.OK, details: '' };
  response.writeHead(200, { 'content-type': MEDIA_TYPE, connection: 'close' });
  try {
    const message = messageIn(await bodyOf(request));
    request.socket.setTimeout(0); // an answer may take its time, and a watch is silent for hours
    if (called === undefined) throw new Refusal(STATUS.UNIMPLEMENTED, `no method ${request.url}`);
    const replies = repliesOf(called, decoded(called.method, message), { signal: gone.signal });
    for await (const reply of replies) {
      if (gone.signal.aborted) break;
      await send(0, called.method.responseSerialize(reply));
    }
  } catch (thrown) {
    if (gone.signal.aborted) return;
    status = thrown instanceof Refusal ? thrown.status : called!.failed(thrown, called!.method.path);
  }
  await send(TRAILERS, Buffer.from(trailersOf(status), 'latin1'));
  response.end();
}

async function* repliesOf({ method, handler }: WebMethod, request: unknown, context: CallContext) {
  if (method.responseStream) yield* handler(request, context) as AsyncIterable<unknown>;
  else yield await handler(request, context);
}

/** What is wrong with a call before it reaches its handler: gRPC's own words, not those of a MeshError. */
class Refusal extends Error {
  readonly status: Status;

  constructor(code: number, details: string) {
    super(details);
    this.status = { code, details };
  }
}

/** All of it is read, also when it is too much: a sender that is cut off does not get to see why. */
async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const pieces: Buffer[] = [];
  let length = 0;
  for await (const piece of request as AsyncIterable<Buffer>) {
    length += piece.length;
    if (length <= PREFIX + REQUEST_LIMIT) pieces.push(piece);
  }
  if (length > PREFIX + REQUEST_LIMIT) {
    throw new Refusal(STATUS.RESOURCE_EXHAUSTED, `a request of ${length} bytes, more than ${REQUEST_LIMIT}`);
  }
  return Buffer.concat(pieces);
}

function messageIn(body: Buffer): Buffer {
  if (body.length < PREFIX || body[0] !== 0 || body.readUInt32BE(1) !== body.length - PREFIX) {
    throw new Refusal(STATUS.INVALID_ARGUMENT, 'the request is not one frame of gRPC-Web');
  }
  return body.subarray(PREFIX);
}

function decoded(method: MethodDefinition<unknown, unknown>, message: Buffer): unknown {
  try {
    return method.requestDeserialize(message);
  } catch (thrown) {
    throw new Refusal(STATUS.INVALID_ARGUMENT, `the request cannot be read: ${messageOf(thrown)}`);
  }
}

function trailersOf({ code, details, retry }: Status): string {
  const told = `grpc-status: ${code}\r\ngrpc-message: ${encodeURIComponent(details)}\r\n`;
  return retry === undefined ? told : `${told}${RETRY_KEY}: ${retry}\r\n`;
}
