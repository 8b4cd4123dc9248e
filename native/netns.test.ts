import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { closeSync, existsSync, readFileSync, readlinkSync, statSync, writeFileSync } from 'node:fs';
import { createServer, Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import {
  bindSocket,
  createNetns,
  deleteNetns,
  inNetns,
  netnsIdentity,
  openNetns,
  openSocket,
  pinNetns,
  sdNotify,
} from './index.ts';
import { cleanUp, freshDirectory, freshNetns, onCleanup, run, runNode, uniqueName, waitFor } from './test-support.ts';

afterEach(cleanUp);

const threadNetns = () => readlinkSync('/proc/thread-self/ns/net');
const listed = () => run('ip', 'netns', 'list').split(/\s+/);

describe('named namespaces', () => {
  it('interoperate with ip netns: listed, entered and deleted by either side', () => {
    const { name, path } = freshNetns();
    expect(listed()).toContain(name);
    const inode = run('ip', 'netns', 'exec', name, 'readlink', '/proc/self/ns/net').trim();
    expect(inode).toBe(`net:[${netnsIdentity(path).ino}]`);
    expect(threadNetns()).not.toBe(inode);
    expect(statSync(path).ino).toBe(netnsIdentity(path).ino);
    run('ip', 'netns', 'del', name);
    expect(existsSync(path)).toBe(false);

    const other = uniqueName('mt');
    run('ip', 'netns', 'add', other);
    deleteNetns(`/run/netns/${other}`);
    expect(listed()).not.toContain(other);
  });

  it('leave nothing behind when deleted, and cannot be created twice', () => {
    const { path } = freshNetns();
    expect(() => createNetns(path)).toThrowError(expect.objectContaining({ code: 'EEXIST' }));
    deleteNetns(path);
    expect(existsSync(path)).toBe(false);
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(path);
    expect(() => deleteNetns(path)).toThrowError(expect.objectContaining({ code: 'ENOENT' }));
    createNetns(path);
    expect(netnsIdentity(path).ino).toBeGreaterThan(0);
  });

  it('may be in another directory, which becomes a shared mount', () => {
    const directory = join(freshDirectory(), 'pins');
    onCleanup(() => run('umount', '-l', directory));
    createNetns(join(directory, 'one'));
    createNetns(join(directory, 'two'));
    onCleanup(() => deleteNetns(join(directory, 'one')));
    onCleanup(() => deleteNetns(join(directory, 'two')));
    const mounts = readFileSync('/proc/self/mountinfo', 'utf8').split('\n');
    expect(mounts.filter((line) => line.split(' ')[4] === directory && line.includes('shared:'))).toHaveLength(1);
    // The removal propagates to another mount namespace, which therefore does not keep the namespace alive.
    const child = spawn('unshare', ['-m', '--propagation', 'slave', 'sleep', '1000'], { stdio: 'ignore' });
    onCleanup(() => child.kill('SIGKILL'));
    const seen = () => readFileSync(`/proc/${child.pid}/mountinfo`, 'utf8').includes(join(directory, 'two'));
    expect(seen()).toBe(true);
    deleteNetns(join(directory, 'two'));
    expect(seen()).toBe(false);
  });

  it('are the only files that deleteNetns deletes', () => {
    const file = join(freshDirectory(), 'precious');
    writeFileSync(file, 'data');
    expect(() => deleteNetns(file)).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
    expect(readFileSync(file, 'utf8')).toBe('data');
    const { path } = freshNetns();
    const link = `${path}-link`;
    run('ln', '-s', file, link);
    onCleanup(() => run('rm', link));
    expect(() => deleteNetns(link)).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
    expect(existsSync(link)).toBe(true);
  });

  it('can be pinned from a process or a descriptor', async () => {
    const child = spawn('unshare', ['-n', 'sleep', '1000'], { stdio: 'ignore' });
    onCleanup(() => child.kill('SIGKILL'));
    const own = netnsIdentity({ pid: process.pid });
    await waitFor(() => netnsIdentity({ pid: child.pid! }).ino !== own.ino, 'the child to unshare');
    const byPid = `/run/netns/${uniqueName('mt')}`;
    const byFd = `/run/netns/${uniqueName('mt')}`;
    pinNetns({ pid: child.pid! }, byPid);
    onCleanup(() => deleteNetns(byPid));
    const fd = openNetns(byPid);
    pinNetns(fd, byFd);
    onCleanup(() => deleteNetns(byFd));
    closeSync(fd);
    const expected = netnsIdentity({ pid: child.pid! });
    child.kill('SIGKILL');
    expect(netnsIdentity(byPid)).toEqual(expected);
    expect(netnsIdentity(byFd)).toEqual(expected);
    expect(expected).not.toEqual(own);
    expect(() => pinNetns('/etc/passwd', `${byFd}-no`)).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
    expect(existsSync(`${byFd}-no`)).toBe(false);
  });
});

describe('inNetns', () => {
  it('runs inside and always returns, also after an exception', () => {
    const { path } = freshNetns();
    const home = threadNetns();
    const fd = openNetns(path);
    onCleanup(() => closeSync(fd));
    const inside = `net:[${netnsIdentity(path).ino}]`;
    expect(inNetns(path, threadNetns)).toBe(inside);
    const homeFd = openNetns({ pid: process.pid });
    onCleanup(() => closeSync(homeFd));
    expect(inNetns(fd, () => [inNetns(homeFd, threadNetns), threadNetns()])).toEqual([home, inside]);
    expect(inNetns(path, () => run('readlink', '/proc/self/ns/net').trim())).toBe(inside);
    expect(() =>
      inNetns(path, () => {
        throw new RangeError('mine');
      }),
    ).toThrowError(new RangeError('mine'));
    expect(() => inNetns(path, async () => {})).toThrowError(/synchronous/);
    expect(() => inNetns('/etc/passwd', () => {})).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
    expect(threadNetns()).toBe(home);
  });

  it('does not pass the namespace on to the thread pool', async () => {
    const { path } = freshNetns();
    const { output, status } = await runNode(`
      const fs = require('node:fs');
      const home = fs.readlinkSync('/proc/self/ns/net');
      mesh.inNetns(${JSON.stringify(path)}, () => {
        fs.readFile('/proc/self/stat', () => {
          const all = fs.readdirSync('/proc/self/task').map((t) => fs.readlinkSync('/proc/self/task/' + t + '/ns/net'));
          console.log(all.length > 4, all.every((ns) => ns === home));
        });
      });`);
    expect(output).toBe('true true\n');
    expect(status).toBe(0);
  });
});

describe('sockets for Node', () => {
  it('accept and open TCP connections in a namespace', async () => {
    const { name, path } = freshNetns();
    run('ip', '-n', name, 'link', 'set', 'lo', 'up');
    const listening = openSocket({ netns: path });
    bindSocket(listening, '127.0.0.9', 4242);
    const server = createServer((socket) => socket.end('hello from inside'));
    onCleanup(() => server.close());
    await new Promise<void>((resolve) => server.listen({ fd: listening }, resolve));
    // connect() in the same tick, otherwise the first read finds the socket unconnected.
    const client = new Socket({ fd: openSocket({ netns: path }) });
    onCleanup(() => client.destroy());
    const text = await new Promise<string>((resolve, reject) => {
      let all = '';
      client.on('data', (chunk) => {
        all += chunk.toString();
      });
      client.on('end', () => resolve(all));
      client.on('error', reject);
      client.connect(4242, '127.0.0.9');
    });
    expect(text).toBe('hello from inside');
  });

  it('carry UDP of both families in a namespace', async () => {
    const { name, path } = freshNetns();
    run('ip', '-n', name, 'link', 'set', 'lo', 'up');
    for (const [type, family, address] of [
      ['udp4', 2, '127.0.0.1'],
      ['udp6', 10, '::1'],
    ] as const) {
      const fd = openSocket({ netns: path, family, type: 2 });
      bindSocket(fd, address, 5353);
      const socket = createSocket(type);
      onCleanup(() => socket.close());
      const got = new Promise<string>((resolve) => socket.on('message', (data) => resolve(data.toString())));
      await new Promise<void>((resolve) => socket.bind({ fd }, () => resolve()));
      inNetns(path, () => run('bash', '-c', `echo -n ping > /dev/udp/${address}/5353`));
      expect(await got).toBe('ping');
    }
  });

  it('reject invalid arguments', () => {
    const fd = openSocket({});
    onCleanup(() => closeSync(fd));
    expect(() => bindSocket(fd, 'example.org', 1)).toThrowError(expect.objectContaining({ code: 'EINVAL' }));
    expect(() => bindSocket(fd, '192.0.2.77', 1)).toThrowError(expect.objectContaining({ code: 'EADDRNOTAVAIL' }));
    expect(() => bindSocket(fd, '127.0.0.1', 70_000)).toThrowError(RangeError);
    expect(() => openSocket({ family: 12345 })).toThrowError(expect.objectContaining({ code: 'EAFNOSUPPORT' }));
  });
});

describe('sdNotify', () => {
  const receiver = `import os, socket, sys
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(sys.argv[1].replace('@', chr(0)))
print('ready', flush=True)
print(s.recv(4096).decode(), flush=True)`;

  async function notified(address: string, state: string): Promise<string> {
    const child = spawn('python3', ['-c', receiver, address], { stdio: ['ignore', 'pipe', 'inherit'] });
    onCleanup(() => child.kill('SIGKILL'));
    let output = '';
    child.stdout.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
    await waitFor(() => output.startsWith('ready\n'), 'the receiver');
    process.env['NOTIFY_SOCKET'] = address;
    expect(sdNotify(state)).toBe(true);
    await new Promise((resolve) => child.on('close', resolve));
    return output.slice('ready\n'.length);
  }

  afterEach(() => {
    delete process.env['NOTIFY_SOCKET'];
  });

  it('reaches path and abstract sockets, and fails without a listener', async () => {
    expect(sdNotify('READY=1')).toBe(false);
    expect(await notified(join(freshDirectory(), 'notify'), 'READY=1\nSTATUS=fine')).toBe('READY=1\nSTATUS=fine\n');
    expect(await notified(`@${uniqueName('mesh-notify')}`, 'STOPPING=1')).toBe('STOPPING=1\n');
    process.env['NOTIFY_SOCKET'] = '/run/not-there';
    expect(() => sdNotify('READY=1')).toThrowError(expect.objectContaining({ code: 'ENOENT' }));
  });
});
