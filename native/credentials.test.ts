import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, closeSync, openSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { openSocket, peerCredentials } from './index.ts';
import { cleanUp, freshDirectory, onCleanup } from './test-support.ts';

afterEach(cleanUp);

const AF_UNIX = 1;
const fdOf = (handle: Server | Socket) => (handle as unknown as { _handle: { fd: number } })._handle.fd;

async function listen(where: string | number): Promise<Server> {
  const server = createServer();
  onCleanup(() => server.close());
  server.listen(where);
  await once(server, 'listening');
  return server;
}

/** A process of another user that connects to `path` and keeps running. */
function connectAs(path: string, ids: { uid: number; gid: number }, groups: readonly number[]) {
  const script = `
    process.setgroups(${JSON.stringify(groups)}); process.setgid(${ids.gid}); process.setuid(${ids.uid});
    require('node:net').connect(${JSON.stringify(path)});`;
  const client = spawn(process.execPath, ['-e', script], { stdio: 'ignore' });
  onCleanup(() => client.kill('SIGKILL'));
  return client;
}

describe('peerCredentials', () => {
  it.each([
    ['with groups', [7, 4242]],
    ['without groups', []],
    ['with more groups than fit at first', Array.from({ length: 100 }, (_, i) => 1000 + i)],
  ])('are the ids of the process that connected, %s', async (_, groups) => {
    const path = join(freshDirectory(), 'socket');
    // Other users must be able to reach the socket: its directory is 0700.
    const server = await listen(path);
    chmodSync(join(path, '..'), 0o755);
    chmodSync(path, 0o777);
    const client = connectAs(path, { uid: 4321, gid: 4322 }, groups);
    const [socket] = (await once(server, 'connection')) as [Socket];
    onCleanup(() => socket.destroy());
    expect(peerCredentials(fdOf(socket))).toEqual({ pid: client.pid, uid: 4321, gid: 4322, groups });
  });

  it('are rejected for anything but a connected unix socket', async () => {
    const refused = (fd: number, code: string) =>
      expect(() => peerCredentials(fd)).toThrowError(expect.objectContaining({ code }));
    const open = (family?: number) => {
      const fd = openSocket({ family });
      onCleanup(() => closeSync(fd));
      return fd;
    };
    refused(open(), 'EINVAL');
    refused(open(AF_UNIX), 'ENOTCONN');
    // The kernel returns our own credentials here, which are root's.
    refused(fdOf(await listen(join(freshDirectory(), 'socket'))), 'EINVAL');
    const file = openSync('/dev/null', 'r');
    onCleanup(() => closeSync(file));
    refused(file, 'ENOTSOCK');
    refused(-1, 'EBADF');
  });
});
