import { connect, createServer, type Socket } from 'node:net';
import { Writable } from 'node:stream';
import { expect, test } from 'vitest';
import { MeshError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { Caller } from '../identity/caller.ts';
import { connectDispatch } from './dispatch-client.ts';
import type { SessionHandler } from './grpc-server.ts';
import type { AgentMessage, ManagerMessage } from './messages.ts';
import { owner, scratch, trusting } from './rpc.test-data.ts';
import { createSendQueue } from './send-queue.ts';
import { serveInsecureAgents, serveLocalAgent } from './server.ts';

const { path, onEnd } = scratch();

async function started(handler: SessionHandler, callerOf: (socket: Socket) => Caller = () => owner) {
  const server = await serveLocalAgent({ path: path(), mode: 0o600 }, handler, { ...trusting, callerOf });
  onEnd(() => server.stop());
  return connected(server.address);
}

function connected(address: string) {
  const client = connectDispatch(address);
  onEnd(() => client.close());
  return client.session();
}

const heartbeat: AgentMessage = { message: { case: 'heartbeat', value: {} }, probeId: 0 };
const hello: AgentMessage = {
  message: {
    case: 'hello',
    value: {
      name: 'n1',
      nodeId: '',
      underlay: '192.0.2.1',
      labels: {},
      version: '1',
      kernelRelease: '6.1',
      role: 'worker',
      tasks: [],
    },
  },
  probeId: 0,
};
const welcome: ManagerMessage = {
  message: { case: 'welcome', value: { nodeId: 'n1', heartbeatSeconds: 2, clusterId: 'c' } },
};
const question = (argument: string): ManagerMessage => ({
  message: { case: 'question', value: { questionId: 1, kind: 'doctor', argument } },
});

test('a session carries messages both ways; the handler knows its caller; its error comes out of received', async () => {
  let caller: Caller | undefined;
  const session = await started(async (stream) => {
    caller = stream.caller;
    for await (const { message } of stream.received) {
      if (message?.case === 'hello') await stream.send(welcome);
      else throw new MeshError('conflict', 'größer als 100 %: replaced by another session', { retry: true });
    }
  });
  await session.send(hello);
  const received = session.received[Symbol.asyncIterator]();
  expect((await received.next()).value).toEqual(welcome);
  expect(caller).toEqual(owner);
  await session.send(heartbeat);
  await expect(received.next()).rejects.toMatchObject({
    code: 'conflict',
    message: 'größer als 100 %: replaced by another session',
    retry: true,
  });
  await expect.poll(() => session.closed.aborted).toBe(true);
});

test('a client that disconnects ends the session on the server', async () => {
  let begun = false;
  let ended = false;
  const session = await started(async (stream) => {
    try {
      for await (const _ of stream.received) begun = true;
    } finally {
      ended = true;
    }
  });
  session.received[Symbol.asyncIterator]()
    .next()
    .catch(() => {});
  await session.send(heartbeat);
  await expect.poll(() => begun).toBe(true);
  session.end(new MeshError('unavailable', 'bye'));
  await expect.poll(() => ended).toBe(true);
});

test('a session that the server ends from outside ends for both, and its handler too', async () => {
  let end: (error: MeshError) => void = () => {};
  let ended = false;
  const session = await started(async (stream) => {
    end = stream.end;
    for await (const _ of stream.received) await stream.send(welcome);
    ended = true;
  });
  await session.send(heartbeat);
  const received = session.received[Symbol.asyncIterator]();
  await received.next();
  end(new MeshError('conflict', 'replaced'));
  await expect(received.next()).rejects.toMatchObject({ code: 'conflict', message: 'replaced' });
  await expect.poll(() => ended).toBe(true);
});

test('a message that fails its check ends the session and names the field', async () => {
  const session = await started(async (stream) => {
    for await (const _ of stream.received);
  });
  await session.send({
    message: {
      case: 'hello',
      value: { ...(hello.message as { value: object }).value, underlay: '127.0.0.1' } as never,
    },
    probeId: 0,
  });
  await expect(session.received[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'invalid',
    message: expect.stringMatching(/^message\.value\.underlay: 127\.0\.0\.1 cannot be reached by other nodes/),
  });
});

test('only root may have a session on the local socket', async () => {
  const session = await started(
    async () => {
      throw new Error('the handler must not run');
    },
    () => ({ kind: 'local', uid: 1000, pid: 1, access: 'group' }),
  );
  await session.send(hello);
  await expect(session.received[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'permission',
    message: 'user 1000 may not call meshd.v1.Dispatch/Session: only root may',
  });
});

test('a report past the limit is refused', async () => {
  const session = await started(async (stream) => {
    for await (const _ of stream.received);
  });
  const body = new Uint8Array(5 * 1024 * 1024);
  await session.send({
    message: { case: 'answer', value: { questionId: 1, body, last: true, error: '' } },
    probeId: 0,
  });
  await expect(session.received[Symbol.asyncIterator]().next()).rejects.toMatchObject({ code: 'exhausted' });
});

test('an agent that does not read is disconnected with a reason', async () => {
  const reasons: unknown[] = [];
  let ended = false;
  const session = await started(async (stream) => {
    stream.closed.addEventListener('abort', () => {
      ended = true;
    });
    const flood = 'x'.repeat(100_000);
    // Not awaited: as many as the queue takes.
    for (let sent = 0; sent < 3_000 && !stream.closed.aborted; sent += 1) void stream.send(question(flood));
    for await (const _ of stream.received) reasons.push(_);
  });
  await session.send(hello); // and nothing is read
  await expect.poll(() => ended, { timeout: 20_000 }).toBe(true);
  expect(reasons).toEqual([]);
});

test('tcp: the chosen port is reported, a port in use is a conflict', async () => {
  let caller: Caller | undefined;
  const handler: SessionHandler = async (stream) => {
    caller = stream.caller;
    for await (const _ of stream.received) await stream.send(welcome);
  };
  const server = await serveInsecureAgents('127.0.0.1:0', handler, silentLog());
  onEnd(() => server.stop());
  expect(server.address).toMatch(/^127\.0\.0\.1:[1-9]\d+$/);
  const session = connected(server.address);
  await session.send(hello);
  expect((await session.received[Symbol.asyncIterator]().next()).value).toEqual(welcome);
  expect(caller).toEqual({ kind: 'node' });
  await expect(serveInsecureAgents(server.address, handler, silentLog())).rejects.toMatchObject({ code: 'conflict' });
});

test('stop ends sessions that would never end', async () => {
  const server = await serveLocalAgent(
    { path: path(), mode: 0o600 },
    async (stream) => {
      for await (const _ of stream.received) await stream.send(welcome);
    },
    trusting,
  );
  const session = connected(server.address);
  await session.send(hello);
  const received = session.received[Symbol.asyncIterator]();
  await received.next();
  const next = expect(received.next()).rejects.toBeInstanceOf(MeshError);
  await server.stop();
  await next;
});

test('bytes that are not HTTP/2 close the connection and nothing else', async () => {
  const session = await started(async (stream) => {
    for await (const _ of stream.received) await stream.send(welcome);
  });
  const stray = connect({ path: path() });
  stray.on('error', () => {});
  stray.write('POST / HTTP/1.1\r\n\r\n');
  await new Promise((resolve) => stray.resume().on('close', resolve));
  await session.send(hello);
  expect((await session.received[Symbol.asyncIterator]().next()).value).toEqual(welcome);
});

test('an agent gets an error if its manager does not exist', async () => {
  const session = connected(path('absent.sock'));
  await expect(session.received[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'unavailable',
    message: expect.stringMatching(/^cannot reach meshd at .*absent\.sock: no such socket/),
  });
  const server = createServer((socket) => socket.destroy());
  await new Promise<void>((resolve) => server.listen({ path: path('closed.sock') }, resolve));
  onEnd(() => server.close());
  await expect(connected(path('closed.sock')).received[Symbol.asyncIterator]().next()).rejects.toMatchObject({
    code: 'unavailable',
  });
});

/** A stream whose peer does not read until `take` is called. */
function stuck() {
  let take = () => {};
  const taken: string[] = [];
  const stream = new Writable({
    highWaterMark: 1,
    write(chunk, _, done) {
      taken.push(String(chunk));
      take = done;
    },
  });
  return { stream, taken, take: () => take() };
}

test('a send queue is bounded by messages, by bytes and by time, and keeps the order', async () => {
  const bytes = (text: string) => Buffer.from(text);
  const limits = { messages: 2, bytes: 10, timeout: 50 };
  const failures: string[] = [];
  const queue = (to: Writable) =>
    createSendQueue(to, new AbortController().signal, ({ message }) => failures.push(message), limits);

  const slow = stuck();
  const ordered = queue(slow.stream);
  void ordered.send(bytes('a'));
  void ordered.send(bytes('b'));
  void ordered.send(bytes('c'));
  expect([slow.taken, failures]).toEqual([['a'], []]);
  void ordered.send(bytes('d'));
  expect(failures.splice(0)).toEqual([expect.stringMatching(/reads too slowly: 2 messages with 2 bytes wait/)]);
  let finished = false;
  ordered.finish(() => {
    finished = true;
  });
  for (let round = 0; round < 3; round += 1) {
    slow.take();
    await new Promise(setImmediate);
  }
  expect([slow.taken, finished]).toEqual([['a', 'b', 'c'], true]);

  const large = queue(stuck().stream);
  void large.send(bytes('a'));
  void large.send(bytes('x'.repeat(100))); // one message always may wait
  void large.send(bytes('y'));
  expect(failures.splice(0)).toEqual([expect.stringMatching(/1 messages with 100 bytes wait/)]);

  void queue(stuck().stream).send(bytes('a'));
  await expect.poll(() => failures).toContainEqual(expect.stringMatching(/it took nothing for 0\.05 s/));
});
