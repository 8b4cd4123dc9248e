import { chmodSync, existsSync, lstatSync, mkdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { expect, test, vi } from 'vitest';
import { connectControl } from './client.ts';
import { control, scratch, serve, statusReply } from './rpc.test-data.ts';

/* The file of a socket may be removed while its server runs, alone or with its directory. */

const { path, onEnd } = scratch();

const prepareDirectory = (file: string) => {
  mkdirSync(dirname(file), { recursive: true });
  chmodSync(dirname(file), 0o755);
};

async function started() {
  const file = path('run/meshd.sock');
  prepareDirectory(file);
  let answerLate = () => {};
  const late = new Promise<void>((resolve) => {
    answerLate = resolve;
  });
  const handlers = {
    status: async () => statusReply,
    listNodes: () => late.then(() => ({ nodes: [] })),
  };
  const server = await serve(file, [control(handlers)], { prepareDirectory, checkInterval: 20 });
  onEnd(() => server.stop());
  const connect = () => {
    const client = connectControl(file);
    onEnd(() => client.close());
    return client;
  };
  return { file, connect, answerLate };
}

test.each(['the file', 'the directory'])('%s is created again with its permissions', async (what) => {
  const { file, connect } = await started();
  const { mode } = statSync(file);
  rmSync(what === 'the file' ? file : dirname(file), { recursive: true });
  await vi.waitFor(() => expect(existsSync(file)).toBe(true), { timeout: 10_000 });
  await expect(connect().status({})).resolves.toEqual(statusReply);
  expect(statSync(file).mode).toBe(mode);
});

test('a request in progress is answered on its old connection', async () => {
  const { file, connect, answerLate } = await started();
  const client = connect();
  const answer = client.listNodes({});
  await client.status({});
  rmSync(file);
  await vi.waitFor(() => expect(existsSync(file)).toBe(true), { timeout: 10_000 });
  answerLate();
  await expect(answer).resolves.toEqual({ nodes: [] });
});

test('a file of another program in its place is left alone', async () => {
  const { file } = await started();
  rmSync(file);
  writeFileSync(file, 'other');
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(lstatSync(file).isFile()).toBe(true);
});
