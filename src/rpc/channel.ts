import { createConnection, type Socket } from 'node:net';
import { messageOf } from '../base/errors.ts';
import { KEEPALIVE_TIME, KEEPALIVE_TIMEOUT, REPLY_LIMIT } from './limits.ts';
import { isServiceError, RETRY_KEY, type ServiceError, STATUS } from './status.ts';
import { messages } from './stream.ts';
import { framed, isTrailers, MEDIA_TYPE, PREFIX } from './web-frame.ts';

/*
 * gRPC-Web over HTTP/1.0 as far as calls with one request need it, one connection a call: loading grpc-js takes longer
 * than all else that a verb of meshctl does, and Node's HTTP/2 a fifth of it.
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

/** How often (ms) the server of a call without a timeout is asked whether it lives, and how long it may take to say so. */
interface Keepalive {
  time: number;
  timeout: number;
}

/** To the server behind the unix socket at `path`. */
export function openChannel(
  path: string,
  keepalive: Keepalive = { time: KEEPALIVE_TIME, timeout: KEEPALIVE_TIMEOUT },
): Channel {
  const open = new Set<Socket>();

  async function* call<I, O>(
    method: Method<I, O>,
    request: I,
    { timeout, signal }: { timeout?: number; signal?: AbortSignal },
  ): AsyncGenerator<O> {
    if (signal?.aborted) throw serviceError(STATUS.CANCELLED, 'cancelled before it was sent');
    const socket = createConnection({ path });
    open.add(socket);
    const giveUp = (code: number, details: string) => socket.destroy(serviceError(code, details));
    const cancel = () => giveUp(STATUS.CANCELLED, 'cancelled');
    const late = () => giveUp(STATUS.DEADLINE_EXCEEDED, `nothing came within ${timeout} ms`);
    const dead = (why: string) => giveUp(STATUS.UNAVAILABLE, why);
    const timer =
      timeout === undefined
        ? setInterval(() => knock(path, keepalive.timeout, dead), keepalive.time).unref()
        : setTimeout(late, timeout);
    signal?.addEventListener('abort', cancel, { once: true });
    socket.write(posted(method.path, method.requestSerialize(request)));
    try {
      for await (const frame of framesOf(messages<Buffer>(socket, asServiceError))) {
        if (isTrailers(frame.flags)) return succeeded(frame.body);
        yield method.responseDeserialize(frame.body);
      }
      throw serviceError(STATUS.UNAVAILABLE, 'the connection was closed before the answer was whole');
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener('abort', cancel);
      socket.destroy();
      open.delete(socket);
    }
  }

  return {
    call,
    close() {
      for (const socket of open) socket.destroy();
    },
  };
}

/** A daemon that hangs must not keep a watch waiting for ever. */
function knock(path: string, timeout: number, dead: (why: string) => void): void {
  const socket = createConnection({ path });
  socket.setTimeout(timeout, () => {
    socket.destroy();
    dead(`no sign of life within ${timeout / 1000} s`);
  });
  socket.on('error', () => {}); // the call has a connection of its own, and its own error
  socket.on('data', () => socket.destroy());
  socket.write('GET / HTTP/1.0\r\n\r\n');
}

function posted(path: string, message: Buffer): Buffer {
  const body = framed(0, message);
  const head = `POST ${path} HTTP/1.0\r\ncontent-type: ${MEDIA_TYPE}\r\ncontent-length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}

/** Bytes of a reply's HTTP head that are looked at. */
const HEAD_LIMIT = 16_384;

/** What follows the HTTP head; pieces are put together only when what is waited for is there. */
async function* framesOf(pieces: AsyncIterable<Buffer>): AsyncGenerator<{ flags: number; body: Buffer }> {
  let gathered: Buffer[] = [];
  let length = 0;
  let wanted = 1;
  let inHead = true;
  for await (const piece of pieces) {
    gathered.push(piece);
    length += piece.length;
    if (length < wanted) continue;
    let bytes = Buffer.concat(gathered);
    if (inHead) {
      const end = bytes.indexOf('\r\n\r\n');
      checkHead(bytes, end);
      inHead = end < 0;
      if (!inHead) bytes = bytes.subarray(end + 4);
    }
    while (!inHead && bytes.length >= PREFIX) {
      wanted = PREFIX + bytes.readUInt32BE(1);
      if (wanted > REPLY_LIMIT) throw serviceError(STATUS.RESOURCE_EXHAUSTED, `a reply of ${wanted} bytes`);
      if (bytes.length < wanted) break;
      yield { flags: bytes[0]!, body: bytes.subarray(PREFIX, wanted) };
      bytes = bytes.subarray(wanted);
    }
    if (!inHead && bytes.length < PREFIX) wanted = PREFIX;
    gathered = [bytes];
    length = bytes.length;
  }
}

/** A meshd that is older than gRPC-Web here answers with HTTP/2. */
function checkHead(bytes: Buffer, end: number): void {
  const status = /^HTTP\/1\.\d (\d+)/.exec(bytes.toString('latin1', 0, 16))?.[1];
  if (status === '200' && (end >= 0 || bytes.length <= HEAD_LIMIT)) return;
  if (end < 0 && bytes.length < 16) return;
  throw serviceError(
    STATUS.UNIMPLEMENTED,
    status === undefined ? 'it does not speak gRPC-Web' : `HTTP status ${status}`,
  );
}

/** Throws what the trailers of a reply say, if they say that the call failed. */
function succeeded(trailers: Buffer): void {
  const fields = new Map<string, string>();
  for (const line of trailers.toString('latin1').split('\r\n')) {
    const [name, value] = line.split(/:\s*(.*)/, 2);
    if (value !== undefined) fields.set(name!.toLowerCase(), value);
  }
  const code = Number(fields.get('grpc-status') ?? STATUS.UNKNOWN);
  if (code !== STATUS.OK) throw serviceError(code, decoded(fields.get('grpc-message') ?? ''), fields.get(RETRY_KEY));
}

/** Percent-encoded UTF-8; what is not is taken as it is. */
function decoded(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function asServiceError(thrown: unknown): Error {
  return isServiceError(thrown) ? thrown : serviceError(STATUS.UNAVAILABLE, messageOf(thrown));
}

function serviceError(code: number, details: string, retry?: string): ServiceError {
  const metadata = { get: (key: string) => (key === RETRY_KEY && retry !== undefined ? [retry] : []) };
  return Object.assign(new Error(details), { code, details, metadata });
}
