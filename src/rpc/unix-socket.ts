import { chmod, chown, lstat, mkdtemp, rename, rm, stat, unlink } from 'node:fs/promises';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';

/** sun_path in include/uapi/linux/un.h is 108 bytes with its NUL; ours also has a temporary directory in front. */
const PATH_LIMIT = 90;

export interface ClaimedSocket {
  /** Removes the socket file, if it is still the one that was claimed. */
  release(): Promise<void>;
}

/** Milliseconds between two checks whether a socket still has its file. */
const CHECK_INTERVAL = 2_000;

interface KeepOptions {
  log: Log;
  /** Makes the directory of the socket, with the permissions that it needs; by default it has to exist. */
  prepareDirectory?: ((path: string) => void) | undefined;
  /** Milliseconds between two checks; for tests. */
  interval?: number | undefined;
}

/**
 * Claims a socket, and claims it again when its file is removed, for example with all of /run/meshd: no client could
 * connect any more. `bind` is then called again. A file of another process in its place is left alone.
 */
export async function keepSocket(
  file: SocketFile,
  bind: (path: string) => Promise<unknown>,
  { log, prepareDirectory, interval = CHECK_INTERVAL }: KeepOptions,
): Promise<ClaimedSocket> {
  const { path } = file;
  let claimed = await claimSocket(file, bind);
  let failure = '';
  let checking: Promise<void> = Promise.resolve();

  async function check(): Promise<void> {
    if (await exists(path)) return;
    try {
      prepareDirectory?.(path);
      claimed = await claimSocket(file, bind);
      failure = '';
      log.warn({ path }, `the socket ${path} was removed and has been created again`);
    } catch (thrown) {
      if (messageOf(thrown) !== failure) log.warn(`cannot create the socket ${path} again: ${messageOf(thrown)}`);
      failure = messageOf(thrown);
    }
  }

  const timer = setInterval(() => {
    checking = checking.then(check);
  }, interval).unref();
  return {
    async release() {
      clearInterval(timer);
      await checking;
      await claimed.release();
    },
  };
}

/** Only a missing file counts as missing: one that cannot be examined is left alone. */
function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (thrown: NodeJS.ErrnoException) => thrown.code !== 'ENOENT',
  );
}

export interface SocketFile {
  path: string;
  /** As in chmod. */
  mode: number;
  /** Number of the group that owns it; that of the process when left out. */
  group?: number | undefined;
}

/**
 * Creates a unix socket. `bind` is called with a path in a fresh directory that no other user may enter; the finished
 * socket is then renamed into place. So it never exists with other permissions, and a stale one is replaced atomically.
 */
async function claimSocket(
  { path, mode, group }: SocketFile,
  bind: (path: string) => Promise<unknown>,
): Promise<ClaimedSocket> {
  if (Buffer.byteLength(path) > PATH_LIMIT) {
    throw new MeshError('invalid', `socket path ${path} is longer than ${PATH_LIMIT} bytes: choose a shorter one`);
  }
  await refuseIfTaken(path);
  const directory = await mkdtemp(join(dirname(path), '.s-')).catch((thrown) => {
    throw new MeshError('permission', `cannot create a socket in ${dirname(path)}: ${messageOf(thrown)}`);
  });
  try {
    const fresh = join(directory, 's');
    await bind(fresh);
    if (group !== undefined) await chown(fresh, -1, group);
    await chmod(fresh, mode);
    const { ino } = await stat(fresh);
    await rename(fresh, path);
    return {
      release: async () => {
        const now = await lstat(path).catch(() => undefined);
        if (now?.ino === ino) await unlink(path).catch(() => {});
      },
    };
  } finally {
    await rm(directory, { recursive: true, force: true });
  }
}

async function refuseIfTaken(path: string): Promise<void> {
  const there = await lstat(path).catch(() => undefined);
  if (there === undefined) return;
  if (!there.isSocket()) {
    throw new MeshError('conflict', `${path} exists and is not a socket: remove it or choose another path`);
  }
  const answer = await tryConnect(path);
  if (answer === 'connected') {
    throw new MeshError('conflict', `another process answers on ${path}: stop it or choose another path`);
  }
  if (answer === 'EACCES')
    throw new MeshError('permission', `no permission to use ${path}: run as its owner or as root`);
}

/** ECONNREFUSED means that no process listens: the file was left behind. */
function tryConnect(path: string): Promise<string> {
  return new Promise((resolve) => {
    const socket = createConnection({ path });
    const done = (answer: string) => {
      socket.destroy();
      resolve(answer);
    };
    socket.once('connect', () => done('connected'));
    socket.once('error', (error: NodeJS.ErrnoException) => done(error.code ?? 'error'));
  });
}
