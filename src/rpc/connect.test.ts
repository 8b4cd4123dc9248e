import { spawnSync } from 'node:child_process';
import { existsSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { expect, test } from 'vitest';
import { type ErrorCode, MeshError } from '../base/errors.ts';
import { connectControl, connectLocal } from './client.ts';
import { control, scratch, serve, statusReply } from './rpc.test-data.ts';

const { path, onEnd } = scratch();

async function started(...given: Parameters<typeof serve> extends [string, ...infer Rest] ? Rest : never) {
  const server = await serve(path(), ...given);
  onEnd(() => server.stop());
  const client = connectControl(server.address);
  onEnd(() => client.close());
  return { server, client };
}

async function readAll(events: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of events);
}

const all = { services: true, tasks: true, nodes: true };

test('a call travels over a unix socket of the requested mode, which is removed at the end', async () => {
  const { server, client } = await started([control({ status: async () => statusReply })]);
  expect(statSync(server.address).mode & 0o777).toBe(0o660);
  expect(await client.status({})).toEqual(statusReply);
  await server.stop();
  expect(existsSync(server.address)).toBe(false);
});

const codes: ErrorCode[] = [
  'invalid',
  'not-found',
  'conflict',
  'unavailable',
  'permission',
  'unsupported',
  'kernel',
  'corrupt',
  'exhausted',
  'internal',
];
test.each(codes)('the error %s arrives with its text and its retry flag', async (code) => {
  const text = `größer als 100% "ja"\nline two #${code} 😀`;
  const { client } = await started([
    control({
      status: () => Promise.reject(new MeshError(code, text, { retry: true })),
      // biome-ignore lint/correctness/useYield: this stream fails before its first message
      watch: async function* () {
        throw new MeshError(code, text, { retry: false });
      },
    }),
  ]);
  await expect(client.status({})).rejects.toMatchObject({ name: 'MeshError', code, message: text, retry: true });
  await expect(readAll(client.watch(all))).rejects.toMatchObject({ code, message: text, retry: false });
});

test('a huge error text is cut, not lost', async () => {
  const { client } = await started([
    control({ status: () => Promise.reject(new MeshError('invalid', 'ü'.repeat(100_000))) }),
  ]);
  const error = await client.status({}).then(
    () => Promise.reject(new Error('no error')),
    (thrown: MeshError) => thrown,
  );
  expect(error.code).toBe('invalid');
  expect(error.message).toMatch(/^ü{100,}.* …$/);
});

test('no socket, a slow reply and an unknown service are distinct errors', async () => {
  const absent = connectControl(path('absent.sock'));
  onEnd(() => absent.close());
  await expect(absent.status({})).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/no such socket; is meshd running/),
  });
  const { server, client } = await started([control({ status: () => new Promise(() => {}) })]);
  await expect(client.status({}, { timeout: 100 })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/did not answer in time/),
  });
  const other = connectLocal(server.address);
  onEnd(() => other.close());
  await expect(other.info({})).rejects.toMatchObject({
    code: 'unsupported',
    message: expect.stringMatching(/another version, or not a manager/),
  });
});

test('an aborted call fails as such, and the server is notified', async () => {
  let aborted = false;
  const { client } = await started([
    control({
      status: (_, { signal }) =>
        new Promise(() => {
          signal.addEventListener('abort', () => {
            aborted = true;
          });
        }),
    }),
  ]);
  await expect(client.status({}, { signal: AbortSignal.timeout(50) })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/was cancelled/),
  });
  await expect.poll(() => aborted).toBe(true);
});

test('a message past the limit is refused', async () => {
  const { client } = await started([control({ removeServices: async () => ({ ids: [], names: [], revision: 0 }) })]);
  await expect(client.removeServices({ services: ['x'.repeat(5 * 1024 * 1024)] })).rejects.toMatchObject({
    code: 'exhausted',
  });
  expect(await client.removeServices({ services: ['x'] })).toEqual({ ids: [], names: [], revision: 0 });
});

test('a stream ends when its reader stops, and the server is notified', async () => {
  let aborted = false;
  const { client } = await started([
    control({
      watch: async function* (_, { signal }) {
        signal.addEventListener('abort', () => {
          aborted = true;
        });
        for (let revision = 1; !signal.aborted; revision += 1) {
          yield { action: 'ready', object: undefined, revision };
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      },
    }),
  ]);
  for await (const event of client.watch(all)) if (event.revision === 3) break;
  await expect.poll(() => aborted).toBe(true);
});

test('a stream survives a quiet time and ends when the server stops', async () => {
  const { server, client } = await started([
    control({
      watch: async function* (_, { signal }) {
        yield { action: 'ready', object: undefined, revision: 1 };
        await new Promise((resolve) => signal.addEventListener('abort', resolve));
      },
    }),
  ]);
  const events = client.watch(all)[Symbol.asyncIterator]();
  await events.next();
  const next = expect(events.next()).rejects.toMatchObject({ code: 'unavailable' });
  await server.stop();
  await next;
});

test('a watch ends when the server no longer answers, and not before', async () => {
  let pings = 0;
  const server = createServer((socket) => {
    socket.on('error', () => {});
    onEnd(() => socket.destroy());
    // On a busy machine a ping may arrive before the watch.
    socket.once('data', (request) => {
      if (String(request).includes('/Watch')) return;
      pings += 1;
      if (pings < 3) socket.end('HTTP/1.1 404 Not Found\r\n\r\n');
    });
  });
  await new Promise<void>((resolve) => server.listen({ path: path() }, resolve));
  onEnd(() => server.close());
  const client = connectControl(path(), { time: 20, timeout: 1_000 });
  onEnd(() => client.close());
  await expect(readAll(client.watch(all))).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/no answer within/),
  });
  expect(pings).toBeGreaterThanOrEqual(3);
});

test.each([
  ['nothing', ''],
  ['another protocol', 'SSH-2.0-OpenSSH_9.2p1 Debian\r\n'],
  ['half a reply', 'HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ncontent-length: 90\r\n\r\nx'],
  ['an error page', 'HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\n\r\n'],
])('a server that answers with %s is an error that names the socket', async (_, bytes) => {
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', () => socket.end(bytes));
  });
  await new Promise<void>((resolve) => server.listen({ path: path() }, resolve));
  onEnd(() => server.close());
  const client = connectControl(path());
  onEnd(() => client.close());
  await expect(client.status({})).rejects.toMatchObject({
    name: 'MeshError',
    code: 'unavailable',
    message: expect.stringContaining(path()),
  });
});

test('a stale socket is replaced; a live one and a plain file are not', async () => {
  const die = `require('node:net').createServer().listen(${JSON.stringify(path())}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', die]);
  expect(statSync(path()).isSocket()).toBe(true);
  const { server, client } = await started([control({ status: async () => statusReply })]);
  await expect(serve(path(), [])).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(/another process answers/),
  });
  expect(await client.status({})).toEqual(statusReply);
  await server.stop();
  writeFileSync(path(), 'precious');
  await expect(serve(path(), [])).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(/not a socket/),
  });
  expect(existsSync(path())).toBe(true);
});
