import { text } from 'node:stream/consumers';
import { afterEach, describe, expect, it } from 'vitest';
import { inNetns, netnsIdentity, type ProcessEnd, type SpawnOptions, spawnProcess } from './index.ts';
import { cleanUp, freshNetns } from './test-support.ts';

afterEach(cleanUp);

const ENV = { PATH: '/usr/bin:/bin' };

function run(file: string, args: string[], options: Partial<SpawnOptions> = {}, input?: string) {
  let resolveEnd = (_: ProcessEnd) => {};
  const end = new Promise<ProcessEnd>((resolve) => {
    resolveEnd = resolve;
  });
  const child = spawnProcess(file, args, { env: ENV, ...options }, (ended) => resolveEnd(ended));
  child.stdin?.end(input ?? '');
  return { child, end };
}

describe('spawnProcess', () => {
  it('writes to the standard input of a program and reads its output', async () => {
    const { child, end } = run(
      'sh',
      ['-c', 'cat; echo sorry >&2; exit 3'],
      { pipes: ['stdin', 'stdout', 'stderr'] },
      'in',
    );
    expect(await Promise.all([text(child.stdout!), text(child.stderr!), end])).toEqual([
      'in',
      'sorry\n',
      { code: 3, signal: undefined },
    ]);
  });

  it('sets the environment, and /dev/null for streams without a pipe', async () => {
    const { child, end } = run('sh', ['-c', 'pwd; env; readlink /proc/self/fd/0'], {
      pipes: ['stdout'],
      env: { ...ENV, A: 'b=c' },
    });
    expect((await text(child.stdout!)).split('\n')).toEqual(expect.arrayContaining(['/', 'A=b=c', '/dev/null']));
    expect(child.stdin).toBeUndefined();
    expect((await end).code).toBe(0);
  });

  it('provides the complete input before the program starts, for any size', async () => {
    const input = Buffer.alloc(3_000_000, 'x');
    const { child, end } = run('sh', ['-c', 'wc -c'], { pipes: ['stdout'], input });
    expect(await text(child.stdout!)).toBe('3000000\n');
    expect(child.stdin).toBeUndefined();
    expect((await end).code).toBe(0);
  });

  it('reports the signal that ended it', async () => {
    const { child, end } = run('sleep', ['1000']);
    child.watch.signal(9);
    expect(await end).toEqual({ code: undefined, signal: 'SIGKILL' });
  });

  it('starts it in the netns of the thread, with default signal handling', async () => {
    const { path } = freshNetns();
    const script =
      'stat -Lc %i /proc/self/ns/net; grep SigIgn /proc/self/status; ps -o sid= -p $$ | tr -d " "; echo $$';
    const { child, end } = inNetns(path, () => run('sh', ['-c', script], { pipes: ['stdout'], session: true }));
    const [inode, ignored, session, pid] = (await text(child.stdout!)).split('\n');
    expect(Number(inode)).toBe(netnsIdentity(path).ino);
    // SIGPIPE and all others except two signals internal to the C library (posix_spawn leaves those ignored).
    expect(ignored).toMatch(/^SigIgn:\t[018]+0000000$/);
    expect(session).toBe(pid);
    await end;
  });

  it('throws when there is no such program', () => {
    for (const file of ['no-such-program', '/no/such/program'])
      expect(() => run(file, [])).toThrowError(expect.objectContaining({ code: 'ENOENT', syscall: 'posix_spawn' }));
  });
});
