import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { peerOf } from './peer.ts';

it.each([['unix'], ['tcp']])('the peer of a %s connection', async (kind) => {
  const directory = mkdtempSync(join(tmpdir(), 'peer-'));
  const server = createServer();
  server.listen(kind === 'unix' ? join(directory, 'socket') : 0);
  await once(server, 'listening');
  const address = server.address()!;
  const client = typeof address === 'string' ? connect(address) : connect(address.port);
  const [socket] = (await once(server, 'connection')) as [Socket];
  const own = { pid: process.pid, uid: process.getuid!(), gid: process.getgid!(), groups: process.getgroups!() };
  if (kind === 'unix') expect(peerOf(socket)).toEqual({ ...own, groups: expect.any(Array) });
  else expect(peerOf(socket)).toBeUndefined();
  socket.destroy();
  expect(peerOf(socket)).toBeUndefined();
  client.destroy();
  server.close();
  rmSync(directory, { recursive: true });
});
