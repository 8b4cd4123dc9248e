import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createConnection, type Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { expect, test, vi } from 'vitest';
import { MeshError } from '../base/errors.ts';
import { silentLog } from '../base/log.ts';
import type { Caller } from '../identity/caller.ts';
import { CONNECTIONS } from './limits.ts';
import { control, owner, scratch, serve, statusReply } from './rpc.test-data.ts';

/* What anything but our own client sees at the socket: curl, and what is not HTTP at all. */

const { path, onEnd } = scratch();

async function started(...given: Parameters<typeof serve> extends [string, ...infer Rest] ? Rest : never) {
  const server = await serve(path(), ...given);
  onEnd(() => server.stop());
}

/** Sends these bytes as they are; all that comes back until the server closes. */
async function exchange(...pieces: (string | Buffer)[]): Promise<string> {
  const socket = createConnection({ path: path() });
  for (const piece of pieces) socket.write(piece);
  return text(socket);
}

const STATUS = '/meshd.v1.Control/Status';
const post = (target: string, body: string, more = '') =>
  `POST ${target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n${more}content-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`;
function curl(target: string, body: string, ...headers: string[]): Promise<string> {
  const more = ['content-type: application/json', ...headers].flatMap((header) => ['-H', header]);
  const args = ['-sS', '--unix-socket', path(), ...more, '--data-binary', '@-', `http://meshd${target}`];
  const child = spawn('curl', args, { stdio: ['pipe', 'pipe', 'inherit'] });
  child.stdin.on('error', () => {}).end(body);
  return text(child.stdout);
}
const bodyOf = (reply: string) => JSON.parse(reply.slice(reply.indexOf('\r\n\r\n') + 4));

test('JSON in, JSON out, with the names of mesh.proto', async () => {
  await started([
    control({
      status: async () => statusReply,
      listTasks: async ({ service, includeEnded }) => {
        expect({ service, includeEnded }).toEqual({ service: 'web', includeEnded: true });
        return { tasks: [] };
      },
    }),
  ]);
  expect(bodyOf(await exchange(post(STATUS, '{}')))).toEqual({
    cluster_id: 'c',
    revision: '7',
    version: '1',
    started_at: '1',
    services: 2,
    tasks_running: 3,
    tasks_desired: 4,
    nodes_ready: 5,
    nodes: 6,
  });
  const listed = await exchange(post('/meshd.v1.Control/ListTasks', '{"service":"web","include_ended":true}'));
  expect(bodyOf(listed)).toEqual({ tasks: [] });
});

test('curl works as in the README', async () => {
  await started([control({ status: async () => statusReply })]);
  expect(JSON.parse(await curl(STATUS, '{}'))).toMatchObject({ cluster_id: 'c', nodes: 6 });
});

test('errors are JSON with code and message', async () => {
  await started([
    control({
      status: () => Promise.reject(new MeshError('not-found', 'there is no such thing')),
      apply: async () => ({ services: [], revision: 1 }),
    }),
  ]);
  const failed = await exchange(post(STATUS, '{}'));
  expect(failed).toMatch(/^HTTP\/1\.1 404 /);
  expect(bodyOf(failed)).toEqual({ code: 'not_found', message: 'there is no such thing' });
  const refused = await exchange(post('/meshd.v1.Control/Apply', '{"services":[{"name":"../etc"}]}'));
  expect(bodyOf(refused)).toMatchObject({
    code: 'invalid_argument',
    message: expect.stringMatching(/^services\[0\]\.name: .* may only contain/),
  });
  const garbage = await exchange(post(STATUS, '{"nonsense'));
  expect(bodyOf(garbage)).toMatchObject({ code: 'invalid_argument' });
  const unknown = await exchange(post('/meshd.v1.Control/Nothing', '{}'));
  expect(bodyOf(unknown)).toEqual({ code: 'unimplemented', message: 'no such call: POST /meshd.v1.Control/Nothing' });
});

test('handlers know their caller, and a caller without access is refused with what to do', async () => {
  const seen: Caller[] = [];
  let caller: Caller = owner;
  await started(
    [
      control({
        status: async (_, context) => {
          seen.push(context.caller);
          return statusReply;
        },
      }),
    ],
    { callerOf: () => caller },
  );
  await exchange(post(STATUS, '{}'));
  expect(seen).toEqual([owner]);
  caller = { kind: 'local', uid: 1000, pid: 2, access: 'none' };
  const refused = await exchange(post(STATUS, '{}'));
  expect(refused).toMatch(/^HTTP\/1\.1 403 /);
  expect(bodyOf(refused)).toEqual({
    code: 'permission_denied',
    message: expect.stringMatching(/^user 1000 may not call .*as root or as a member of the group meshd$/),
  });
  expect(seen.length).toBe(1);
});

test('bytes that are no request do no harm', async () => {
  await started([control({ status: async () => statusReply })]);
  expect(await exchange('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
  expect(await exchange(`GET / HTTP/1.1\r\nhost: x\r\nx: ${'y'.repeat(40_000)}\r\n\r\n`)).toMatch(/^HTTP\/1\.1 431 /);
  // HTTP/1.0 has no host, and not every host makes a URL.
  expect(
    await exchange(`POST ${STATUS} HTTP/1.0\r\ncontent-length: 2\r\ncontent-type: application/json\r\n\r\n{}`),
  ).toContain('"cluster_id"');
  expect(await exchange(post(STATUS, '{}').replace('host: x', 'host: a b:c'))).toContain('"cluster_id"');
  expect(await exchange(post(STATUS, '{}'))).toContain('"cluster_id"');
});

test('a request past the limit is refused, also one whose length is not announced', async () => {
  await started([control({ removeServices: async () => ({ ids: [], names: [], revision: 0 }) })]);
  const target = '/meshd.v1.Control/RemoveServices';
  const large = JSON.stringify({ services: ['x'.repeat(5 * 1024 * 1024)] });
  expect(JSON.parse(await curl(target, large))).toMatchObject({ code: 'resource_exhausted' });
  expect(JSON.parse(await curl(target, large, 'transfer-encoding: chunked'))).toMatchObject({
    code: 'resource_exhausted',
  });
  // Compressed requests are not accepted: a few bytes could become gigabytes.
  expect(await exchange(post(target, 'x', 'content-encoding: gzip\r\n'))).toContain('"unimplemented"');
});

test('a client that does not finish its request is disconnected; a reply may take longer than that', async () => {
  const status = async () => {
    await new Promise((resolve) => setTimeout(resolve, 400));
    return statusReply;
  };
  await started([control({ status })], { requestTimeout: 100 });
  const whole = post(STATUS, '{}');
  for (const begun of ['', 'P', 'POST /x HTTP/1.1\r\n', whole.slice(0, -1)]) {
    expect(await exchange(begun)).toMatch(/^$|^HTTP\/1\.1 408 /);
  }
  expect(await exchange(whole)).toContain('"cluster_id"');
});

test('a user with very many connections does not keep others out', async () => {
  let caller: Caller = { kind: 'local', uid: 1000, pid: 2, access: 'group' };
  await started([control({ status: async () => statusReply })], { callerOf: () => caller });
  let open = 0;
  for (let n = 0; n < 1_100; n++) {
    const socket = createConnection({ path: path() });
    onEnd(() => socket.destroy());
    await once(socket, 'connect');
    open += 1;
    socket
      .on('error', () => {})
      .on('close', () => {
        open -= 1;
      });
  }
  await expect.poll(() => open).toBe(CONNECTIONS);
  caller = owner;
  expect(await exchange(post(STATUS, '{}'))).toContain('"cluster_id"');
});

test.each([
  ['that does not read is disconnected', () => {}],
  ['that leaves in the middle of a reply is no failure', (socket: Socket) => socket.destroy()],
])('a peer %s, and its stream ends', async (_, act) => {
  const log = silentLog();
  const logged = vi.spyOn(log, 'error');
  const printed = vi.spyOn(console, 'error').mockImplementation(() => {});
  onEnd(() => printed.mockRestore());
  let ended = false;
  await started(
    [
      control({
        watch: async function* () {
          try {
            const object = { case: 'service' as const, value: { ...bigService } };
            for (let revision = 1; ; revision += 1) yield { action: 'current', object, revision };
          } finally {
            ended = true;
          }
        },
      }),
    ],
    { sendTimeout: 100, log },
  );
  const socket = createConnection({ path: path() });
  onEnd(() => socket.destroy());
  socket.on('error', () => {});
  const frame = Buffer.concat([Buffer.from([0, 0, 0, 0, 2]), Buffer.from('{}')]);
  socket.write(
    `POST /meshd.v1.Control/Watch HTTP/1.1\r\nhost: x\r\ncontent-type: application/connect+json\r\ncontent-length: ${frame.length}\r\n\r\n`,
  );
  socket.write(frame); // and then nothing is read
  setTimeout(() => act(socket), 50);
  await expect.poll(() => ended, { timeout: 10_000 }).toBe(true);
  expect([...printed.mock.calls, ...logged.mock.calls]).toEqual([]);
});

const bigService = {
  id: 's',
  version: 1,
  createdAt: 1,
  updatedAt: 1,
  name: 'x'.repeat(100_000),
  taskGeneration: 1,
  running: 0,
  desired: 0,
  degraded: [],
  pending: 0,
  pendingNodes: [],
};
