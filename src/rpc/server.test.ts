import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, credentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { type ErrorCode, MeshError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import { connectControl, connectLocal } from './client.ts';
import { connectDispatch } from './dispatch-client.ts';
import { ControlService, DispatchService, LocalService, type StatusReply, type WatchRequest } from './gen/mesh.ts';
import { type Handlers, implement } from './implement.ts';
import { clientOptions } from './limits.ts';
import { type RunningServer, startServer } from './server.ts';
import type { ServiceError } from './status.ts';

let directory: string;
const running: { stop(): Promise<void> }[] = [];
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'rpc-'));
});
afterEach(async () => {
  for (const server of running.splice(0)) await server.stop();
  rmSync(directory, { recursive: true, force: true });
});

const reply: StatusReply = {
  clusterId: 'c',
  revision: 7,
  version: '1',
  startedAt: 1,
  services: 2,
  tasksRunning: 3,
  tasksDesired: 4,
  nodesReady: 5,
  nodes: 6,
};

function control(some: Partial<Handlers<typeof ControlService>>) {
  const absent = Object.fromEntries(
    Object.keys(ControlService).map((name) => [name, () => Promise.reject(new Error('not part of this test'))]),
  );
  return implement(ControlService, { ...absent, ...some } as Handlers<typeof ControlService>, silentLog());
}

async function serve(...services: Parameters<typeof startServer>[1]): Promise<RunningServer> {
  const server = await startServer({ path: join(directory, 'meshd.sock'), mode: 0o660 }, services);
  running.push(server);
  return server;
}

test('a call goes there and back over a unix socket of the wanted mode, which goes away at the end', async () => {
  const server = await serve(control({ status: async () => reply }));
  expect(statSync(server.address).mode & 0o777).toBe(0o660);
  const client = connectControl(`unix://${server.address}`);
  expect(await client.status({})).toEqual(reply);
  client.close();
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
  const server = await serve(
    control({
      status: () => Promise.reject(new MeshError(code, text, { retry: true })),
      // biome-ignore lint/correctness/useYield: this stream fails before its first message
      watch: async function* () {
        throw new MeshError(code, text, { retry: false });
      },
    }),
  );
  const client = connectControl(server.address);
  await expect(client.status({})).rejects.toMatchObject({ name: 'MeshError', code, message: text, retry: true });
  const all = (async () => {
    for await (const _ of client.watch({ services: true, tasks: false, nodes: false }));
  })();
  await expect(all).rejects.toMatchObject({ code, message: text, retry: false });
  client.close();
});

test('a huge error text is cut, not lost', async () => {
  const server = await serve(control({ status: () => Promise.reject(new MeshError('invalid', 'ü'.repeat(100_000))) }));
  const client = connectControl(server.address);
  const error: MeshError = await client.status({}).then(
    () => Promise.reject(new Error('no error')),
    (e) => e,
  );
  expect(error.code).toBe('invalid');
  expect(error.message).toMatch(/^ü{100,}.* …$/);
  client.close();
});

test('no socket, a slow answer and an unknown service are told apart', async () => {
  const nobody = connectControl(join(directory, 'absent.sock'));
  await expect(nobody.status({})).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/no such socket; is meshd running/),
  });
  nobody.close();
  const server = await serve(control({ status: () => new Promise(() => {}) }));
  const slow = connectControl(server.address);
  await expect(slow.status({}, { timeout: 100 })).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/did not answer in time/),
  });
  slow.close();
  const other = connectLocal(server.address);
  await expect(other.info({})).rejects.toMatchObject({ code: 'unsupported' });
  other.close();
});

test('a message past the limit is refused', async () => {
  const server = await serve(control({ removeServices: async () => ({ ids: [], names: [], revision: 0 }) }));
  const client = connectControl(server.address);
  await expect(client.removeServices({ services: ['x'.repeat(5 * 1024 * 1024)] })).rejects.toMatchObject({
    code: 'exhausted',
  });
  client.close();
});

test('a stream ends when its reader leaves, and the server knows', async () => {
  let gone = false;
  const server = await serve(
    control({
      watch: async function* (_, { signal }) {
        signal.addEventListener('abort', () => {
          gone = true;
        });
        for (let revision = 1; !signal.aborted; revision += 1) {
          yield { action: 'ready', object: undefined, revision };
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
      },
    }),
  );
  const client = connectControl(server.address);
  for await (const event of client.watch({ services: true, tasks: true, nodes: true })) if (event.revision === 3) break;
  await expect.poll(() => gone).toBe(true);
  client.close();
});

test('a session carries messages both ways and its error comes out of received', async () => {
  const server = await serve(
    implement(
      DispatchService,
      {
        session: async (stream) => {
          for await (const { message } of stream.received) {
            if (message?.$case === 'hello') {
              await stream.send({
                message: {
                  $case: 'welcome',
                  value: { nodeId: message.value.name, heartbeatSeconds: 2, clusterId: 'c' },
                },
              });
            } else throw new MeshError('conflict', 'replaced by another session');
          }
        },
      },
      silentLog(),
    ),
  );
  const client = connectDispatch(server.address);
  const session = client.session();
  const hello = {
    name: 'n1',
    nodeId: '',
    underlay: '',
    labels: {},
    version: '',
    kernelRelease: '',
    role: '',
    tasks: [],
  };
  await session.send({ message: { $case: 'hello', value: hello }, probeId: 0 });
  const received = session.received[Symbol.asyncIterator]();
  expect((await received.next()).value.message.value.nodeId).toBe('n1');
  await session.send({ message: { $case: 'heartbeat', value: {} }, probeId: 0 });
  await expect(received.next()).rejects.toMatchObject({ code: 'conflict', message: 'replaced by another session' });
  await expect.poll(() => session.closed.aborted).toBe(true);
  client.close();
});

test('a client that goes away ends the session on the server', async () => {
  let begun = false;
  let ended = false;
  const server = await serve(
    implement(
      DispatchService,
      {
        session: async (stream) => {
          try {
            for await (const _ of stream.received) begun = true;
          } finally {
            ended = true;
          }
        },
      },
      silentLog(),
    ),
  );
  const client = connectDispatch(server.address);
  const session = client.session();
  session.received[Symbol.asyncIterator]()
    .next()
    .catch(() => {});
  await session.send({ message: { $case: 'heartbeat', value: {} }, probeId: 0 });
  await expect.poll(() => begun).toBe(true);
  session.end(new MeshError('unavailable', 'bye'));
  await expect.poll(() => ended).toBe(true);
  client.close();
});

test('a stale socket is replaced; a live one and a plain file are not', async () => {
  const path = join(directory, 'meshd.sock');
  const die = `require('node:net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', die]);
  expect(statSync(path).isSocket()).toBe(true);
  const first = await serve(control({ status: async () => reply }));
  await expect(startServer({ path, mode: 0o660 }, [])).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(/another process answers/),
  });
  const client = connectControl(path);
  expect(await client.status({})).toEqual(reply);
  client.close();
  await first.stop();
  writeFileSync(path, 'precious');
  await expect(startServer({ path, mode: 0o660 }, [])).rejects.toMatchObject({
    code: 'conflict',
    message: expect.stringMatching(/not a socket/),
  });
  expect(existsSync(path)).toBe(true);
});

/** As somebody else's gRPC client calls it. */
function overGrpc(address: string) {
  const client = new Client(address.replace(/^\//, 'unix:/'), credentials.createInsecure(), clientOptions);
  const { status, watch } = ControlService;
  return {
    close: () => client.close(),
    status: () =>
      new Promise((resolve, reject) => {
        client.makeUnaryRequest(status.path, status.requestSerialize, status.responseDeserialize, {}, (error, value) =>
          error === null ? resolve(value) : reject(error),
        );
      }),
    watch: (request: WatchRequest) =>
      client.makeServerStreamRequest(watch.path, watch.requestSerialize, watch.responseDeserialize, request),
  };
}

test('tcp: the chosen port is told, a port in use is a conflict', async () => {
  const server = await startServer({ tcp: '127.0.0.1:0' }, [control({ status: async () => reply })]);
  running.push(server);
  expect(server.address).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
  const client = overGrpc(server.address);
  expect(await client.status()).toEqual(reply);
  client.close();
  await expect(startServer({ tcp: server.address }, [])).rejects.toMatchObject({ code: 'conflict' });
});

test('the unix socket answers gRPC too: calls, streams, errors with their retry flag', async () => {
  const server = await serve(
    control({
      status: async () => reply,
      watch: async function* () {
        yield { action: 'ready', object: undefined, revision: 1 };
        throw new MeshError('conflict', 'größer als 100 %', { retry: true });
      },
    }),
  );
  const client = overGrpc(server.address);
  expect(await client.status()).toEqual(reply);
  const events = client.watch({ services: true, tasks: false, nodes: false });
  const revisions: number[] = [];
  const failed = new Promise<ServiceError>((resolve) => events.on('error', (error) => resolve(error as ServiceError)));
  events.on('data', ({ revision }) => revisions.push(revision));
  const error = await failed;
  expect(error).toMatchObject({ code: 10, details: 'größer als 100 %' });
  expect(error.metadata?.get('meshd-retry')).toEqual(['true']);
  expect(revisions).toEqual([1]);
  client.close();
});

test.each(['socket', 'tcp'])('stop ends streams that would never end (%s)', async (kind) => {
  const listen = kind === 'tcp' ? { tcp: '127.0.0.1:0' } : { path: join(directory, 'meshd.sock'), mode: 0o660 };
  const server = await startServer(listen, [
    control({
      watch: async function* (_, { signal }) {
        yield { action: 'ready', object: undefined, revision: 1 };
        await new Promise((r) => signal.addEventListener('abort', r));
      },
    }),
  ]);
  const client = kind === 'tcp' ? overGrpc(server.address) : connectControl(server.address);
  const events = client.watch({ services: true, tasks: false, nodes: false })[Symbol.asyncIterator]();
  await events.next();
  const next = expect(events.next()).rejects.toBeInstanceOf(Error);
  await server.stop();
  await next;
  client.close();
});

test('implement knows all methods of Local too', () => {
  const local = implement(
    LocalService,
    { info: () => Promise.reject(new Error('x')), diff: () => Promise.reject(new Error('x')) },
    silentLog(),
  );
  expect(Object.keys(local.handlers)).toEqual(Object.keys(local.definition));
});

test('a session that the server breaks off from outside ends for both, and its handler too', async () => {
  let breakOff: (error: MeshError) => void = () => {};
  let ended = false;
  const session: Handlers<typeof DispatchService>['session'] = async (stream) => {
    breakOff = stream.end;
    for await (const _ of stream.received) await stream.send({ message: undefined });
    ended = true;
  };
  const server = await serve(implement(DispatchService, { session }, silentLog()));
  const client = connectDispatch(server.address);
  const stream = client.session();
  await stream.send({ message: { $case: 'heartbeat', value: {} }, probeId: 0 });
  const received = stream.received[Symbol.asyncIterator]();
  await received.next();
  breakOff(new MeshError('conflict', 'replaced'));
  await expect(received.next()).rejects.toMatchObject({ code: 'conflict', message: 'replaced' });
  await expect.poll(() => ended).toBe(true);
  client.close();
});
