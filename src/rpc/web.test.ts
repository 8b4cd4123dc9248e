import { mkdtempSync, rmSync } from 'node:fs';
import { createServer as createHttp2Server } from 'node:http2';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import fc from 'fast-check';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { silentLog } from '../base/log.ts';
import { openChannel } from './channel.ts';
import { connectLocal } from './client.ts';
import { InfoReply, LocalService } from './gen/mesh.ts';
import { type Handlers, implement } from './implement.ts';
import { startServer } from './server.ts';
import { framed, TRAILERS } from './web-frame.ts';

let directory: string;
let path: string;
const ends: (() => unknown)[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'web-'));
  path = join(directory, 's');
});
afterEach(async () => {
  for (const end of ends.splice(0)) await end();
  rmSync(directory, { recursive: true, force: true });
});

/** A method whose messages are bytes. */
const echo = {
  path: '/t/Echo',
  requestSerialize: (value: Buffer) => value,
  responseDeserialize: (value: Buffer) => value,
};

/** What is at the socket instead of meshd. */
async function listen(answer: (socket: Socket) => void): Promise<Server> {
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    socket.on('error', () => {});
    answer(socket);
  });
  await new Promise<void>((resolve) => server.listen({ path }, resolve));
  ends.push(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return server;
}

async function received(
  settings: { timeout?: number; signal?: AbortSignal } = {},
  keepalive?: Parameters<typeof openChannel>[1],
) {
  const messages: string[] = [];
  for await (const message of openChannel(path, keepalive).call(echo, Buffer.from('?'), settings)) {
    messages.push(message.toString('latin1'));
  }
  return messages;
}

const OK = framed(TRAILERS, Buffer.from('grpc-status: 0\r\n'));
const HEAD = Buffer.from('HTTP/1.1 200 OK\r\ncontent-type: application/grpc-web+proto\r\n\r\n');

test('a reply is read whole however it is cut into pieces', async () => {
  let pieces: Buffer[] = [];
  await listen(async (socket) => {
    for (const piece of pieces) {
      socket.write(piece);
      await new Promise(setImmediate);
    }
    socket.end();
  });
  const property = fc.asyncProperty(
    fc.array(fc.string({ unit: 'binary-ascii', maxLength: 30 }), { maxLength: 5 }),
    fc.array(fc.nat(400), { maxLength: 20 }),
    async (messages, cuts) => {
      const whole = Buffer.concat([HEAD, ...messages.map((message) => framed(0, Buffer.from(message, 'latin1'))), OK]);
      const at = [0, ...cuts.filter((cut) => cut < whole.length).sort((a, b) => a - b), whole.length];
      pieces = at.slice(1).map((end, i) => whole.subarray(at[i], end));
      expect(await received()).toEqual(messages);
    },
  );
  await fc.assert(property, { numRuns: 50 });
});

test.each([
  ['nothing', Buffer.alloc(0), 14, /closed before the answer was whole/],
  ['no trailers', Buffer.concat([HEAD, framed(0, Buffer.from('x'))]), 14, /closed before the answer was whole/],
  ['half a frame', Buffer.concat([HEAD, OK.subarray(0, 9)]), 14, /closed before the answer was whole/],
  ['another status', Buffer.from('HTTP/1.1 503 Service Unavailable\r\n\r\n'), 12, /HTTP status 503/],
  ['no HTTP', Buffer.from('SSH-2.0-OpenSSH_9.2p1 Debian\r\n'), 12, /does not speak gRPC-Web/],
  [
    'a head without end',
    Buffer.concat([HEAD.subarray(0, 20), Buffer.alloc(20_000, 'x')]),
    12,
    /HTTP status 200|gRPC-Web/,
  ],
  [
    'a frame past every limit',
    Buffer.concat([HEAD, Buffer.from([0, 0xff, 0xff, 0xff, 0xff])]),
    8,
    /a reply of 4294967300 bytes/,
  ],
  ['trailers without a status', Buffer.concat([HEAD, framed(TRAILERS, Buffer.from('x'))]), 2, /^$/],
])('an answer that is %s is an error', async (_, bytes, code, details) => {
  await listen((socket) => socket.end(bytes));
  await expect(received()).rejects.toMatchObject({ code, details: expect.stringMatching(details) });
});

test('a meshd from before gRPC-Web is said to be of another version', async () => {
  const server = createHttp2Server();
  await new Promise<void>((resolve) => server.listen({ path }, resolve));
  ends.push(() => server.close());
  await expect(received({ timeout: 5_000 })).rejects.toMatchObject({ code: 12, details: /gRPC-Web/ });
});

test('a call without a deadline ends when the server shows no sign of life, and not while it does', async () => {
  let connections = 0;
  let alive = true;
  await listen((socket) => {
    connections += 1;
    if (connections > 1 && alive) socket.end('HTTP/1.1 404 Not Found\r\n\r\n');
    if (connections === 4) alive = false;
  });
  await expect(received({}, { time: 20, timeout: 30 })).rejects.toMatchObject({ code: 14, details: /no sign of life/ });
  expect(connections).toBeGreaterThan(4);
});

test('cancelled and late calls say so, and their connection is closed', async () => {
  const closed: Promise<unknown>[] = [];
  await listen((socket) => closed.push(new Promise((resolve) => socket.resume().on('close', resolve))));
  await expect(received({ timeout: 20 })).rejects.toMatchObject({ code: 4 });
  await expect(received({ signal: AbortSignal.timeout(20) })).rejects.toMatchObject({ code: 1 });
  await expect(received({ signal: AbortSignal.abort() })).rejects.toMatchObject({ code: 1 });
  await Promise.all(closed);
  expect(closed.length).toBe(2);
});

async function serveLocal(handlers: Partial<Handlers<typeof LocalService>>, patience?: number) {
  const absent = { info: () => Promise.reject(new Error('x')), diff: () => Promise.reject(new Error('x')) };
  const server = await startServer(
    { path, mode: 0o600 },
    [implement(LocalService, { ...absent, ...handlers } as Handlers<typeof LocalService>, silentLog())],
    patience,
  );
  ends.push(() => server.stop());
}

/** Sends these bytes as they are; all that comes back. */
async function exchange(...pieces: (string | Buffer)[]): Promise<string> {
  const socket = createConnection({ path });
  for (const piece of pieces) socket.write(piece);
  return text(socket);
}

test('a request that is none is refused, and the server goes on', async () => {
  await serveLocal({});
  const method = LocalService.info.path;
  const post = (target: string, body: Buffer) => [
    `POST ${target} HTTP/1.0\r\ncontent-length: ${body.length}\r\n\r\n`,
    body,
  ];
  expect(await exchange(...post('/meshd.v1.Local/Nothing', framed(0, Buffer.alloc(0))))).toMatch(/grpc-status: 12\r\n/);
  expect(await exchange(...post(method, Buffer.from('no frame')))).toMatch(/grpc-status: 3\r\n.*not%20one%20frame/);
  expect(await exchange(...post(method, framed(0, Buffer.from([0xff]))))).toMatch(/grpc-status: 3\r\n/);
  expect(await exchange('GET / HTTP/1.0\r\n\r\n')).toMatch(/grpc-status: 3\r\n/);
  expect(await exchange(`GET / HTTP/1.1\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`)).toMatch(/^HTTP\/1.1 431/);
  expect(await exchange('PRI nonsense that is not HTTP/2 at all')).not.toMatch(/HTTP\/1/);
});

test('who does not finish his request is sent away; an answer may take longer than that', async () => {
  const info = async () => {
    await new Promise((resolve) => setTimeout(resolve, 300));
    return InfoReply.decode(Buffer.from('\n\x02n1')); // its first field, all others as by default
  };
  await serveLocal({ info }, 100);
  for (const begun of ['', 'P', 'PROP', 'POST /x HTTP/1.0\r\n', 'POST /x HTTP/1.0\r\ncontent-length: 9\r\n\r\n1']) {
    expect(await exchange(begun)).toBe('');
  }
  const client = connectLocal(path);
  expect(await client.info({})).toMatchObject({ nodeName: 'n1' });
  client.close();
});
