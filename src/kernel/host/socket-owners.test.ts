import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { createSocketOwnerLookup } from './socket-owners.ts';

let directory: string;
const children: ChildProcess[] = [];
afterEach(() => {
  for (const child of children.splice(0)) child.kill('SIGKILL');
  rmSync(directory, { recursive: true });
});

const SOURCE = `
  #include <netinet/in.h>
  #include <stdio.h>
  #include <stdlib.h>
  #include <sys/stat.h>
  #include <unistd.h>
  int main(int argc, char **argv) {
    struct stat about;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (argc > 1 && setuid(atoi(argv[1])) != 0) return 1;
    if (listen(fd, 1) != 0 || fstat(fd, &about) != 0) return 1;
    printf("%lu\\n", (unsigned long)about.st_ino);
    fflush(stdout);
    return pause();
  }`;

/** Builds a program and lets it listen; the inode of its socket. */
async function listen(program: string, ...user: string[]): Promise<{ inode: number; pid: number }> {
  execFileSync('gcc', ['-x', 'c', '-o', program, '-'], { input: SOURCE });
  const child = spawn(program, user, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.push(child);
  const [line] = await once(child.stdout!, 'data');
  return { inode: Number(line), pid: child.pid! };
}

describe('the owner of a socket', () => {
  it.each([[[]], [['65534']]])('has a user, and a program that only root can change (user %j)', async (user) => {
    // Not below /tmp, which is world-writable.
    directory = mkdtempSync('/run/owners-');
    const program = join(directory, 'sshd');
    chmodSync(directory, 0o755);
    const { inode, pid } = await listen(program, ...user);
    const owner = (await createSocketOwnerLookup()(new Set([inode]))).get(inode);
    expect(owner).toEqual({ pid, process: 'sshd', uid: Number(user[0] ?? 0), executable: program });
  });

  it('has no program when its file is in a directory that others can change, or deleted', async () => {
    directory = mkdtempSync(join(tmpdir(), 'owners-'));
    const program = join(directory, 'sshd');
    const { inode, pid } = await listen(program);
    const lookUp = createSocketOwnerLookup();
    expect((await lookUp(new Set([inode]))).get(inode)).toEqual({ pid, process: 'sshd', uid: 0 });
    rmSync(program);
    expect((await lookUp(new Set([inode]))).get(inode)).toEqual({ pid, process: 'sshd', uid: 0 });
  });
});
