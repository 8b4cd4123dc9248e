import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { processStartTime, taskShimPath } from './index.ts';
import { cleanUp, freshDirectory, freshNetns, onCleanup, runNode, waitFor } from './test-support.ts';

afterEach(cleanUp);

/** A task in a netns of its own, to probe beside. */
async function startTask(): Promise<{ shim: ChildProcess; like: string }> {
  const netns = freshNetns();
  const directory = freshDirectory();
  const shim = spawn(taskShimPath(), ['--netns', netns.path, '--dir', directory, '--', 'sleep', '600'], {
    detached: true,
    stdio: 'ignore',
  });
  onCleanup(() => shim.kill('SIGKILL'));
  await waitFor(() => existsSync(join(directory, 'started')), 'start of the task');
  return { shim, like: `${shim.pid}:${processStartTime(shim.pid!)}` };
}

interface ProbeReport {
  verdict: string;
  output: string;
}

function probe(like: string, command: string[], flags: string[] = [], env: NodeJS.ProcessEnv = process.env) {
  const own = ['--probe', '--like', like, '--agent', String(process.pid), '--timeout', '20000'];
  const child = spawn(taskShimPath(), [...own, ...flags, '--', ...command], {
    detached: true,
    stdio: ['ignore', 'pipe', 'ignore'],
    env,
  });
  onCleanup(() => child.kill('SIGKILL'));
  let text = '';
  child.stdout!.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  const told = new Promise<ProbeReport>((resolve) => {
    child.on('close', () => {
      const end = text.indexOf('\n');
      resolve({ verdict: text.slice(0, end), output: text.slice(end + 1) });
    });
  });
  return told;
}

const shell = (like: string, script: string, flags?: string[], env?: NodeJS.ProcessEnv) =>
  probe(like, ['bash', '-c', script], flags, env);

const hasExited = (pid: number) =>
  waitFor(() => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z '), 'its end');
/** A process that wrote its number into a file. */
const numberIn = (path: string) =>
  waitFor(() => (existsSync(path) && Number(readFileSync(path, 'utf8'))) || undefined, path);

describe('a probe', () => {
  it('tells exit code, signal and output', async () => {
    const { like } = await startTask();
    expect(await shell(like, 'echo out; echo err >&2; exit 3')).toEqual({ verdict: 'exit 3', output: 'out\nerr\n' });
    expect(await shell(like, ':')).toEqual({ verdict: 'exit 0', output: '' });
    expect((await shell(like, 'kill -9 $$')).verdict).toBe('signal SIGKILL');
  });

  it('keeps the first 4096 bytes of what it writes and never blocks on the rest', async () => {
    const { like } = await startTask();
    const { verdict, output } = await shell(like, 'echo first; head -c 1000000 /dev/zero | tr "\\0" x; exit 5');
    expect(verdict).toBe('exit 5');
    expect(Buffer.byteLength(output)).toBe(4096);
    expect(output).toMatch(/^first\nx+$/);
  });

  it('runs where the task runs, with the environment, user and directory it is given', async () => {
    const { shim, like } = await startTask();
    const flags = ['--user', 'nobody', '--cwd', '/tmp'];
    const script = 'readlink /proc/self/ns/net /proc/self/ns/mnt; id -un; pwd; echo $GREETING; env | grep -c ^HOME=';
    const { output } = await shell(like, script, flags, { GREETING: 'hi', PATH: process.env['PATH'] });
    const [net, mount, ...rest] = output.trim().split('\n');
    expect(net).toBe(readlinkSync(`/proc/${shim.pid}/ns/net`));
    expect(net).not.toBe(readlinkSync('/proc/self/ns/net'));
    expect(mount).toBe(readlinkSync(`/proc/${shim.pid}/ns/mnt`));
    expect(rest).toEqual(['nobody', '/tmp', 'hi', '0']);
  });

  it('has default signal handling and nothing of the agent open', async () => {
    const { like } = await startTask();
    const { output } = await shell(like, 'grep -E "^Sig(Blk|Ign)" /proc/self/status; ls /proc/$$/fd; :');
    expect(output).toMatch(/SigBlk:\s0000000000000000/);
    expect(output).toMatch(/SigIgn:\s0000000000000000/);
    expect(output.trim().split('\n').slice(2).map(Number)).toEqual([0, 1, 2]);
  });

  it('says what failed when it cannot be run', async () => {
    const { shim, like } = await startTask();
    expect((await probe(like, ['/no/such/program'])).verdict).toBe(
      'error exec: /no/such/program: No such file or directory',
    );
    expect((await shell(like, ':', ['--cwd', '/no/such'])).verdict).toMatch(/^error cwd: \/no\/such: /);
    expect((await shell(like, ':', ['--user', 'nosuchuser'])).verdict).toMatch(/^error user: /);
    expect((await shell(`${shim.pid}:1`, ':')).verdict).toBe('error namespace: the task has ended');
    expect((await shell('4194304:1', ':')).verdict).toMatch(/^error namespace: the task has ended/);
  });
});

describe('nothing is left of a probe', () => {
  /** Ignores SIGTERM, has a child in a session of its own, and never ends by itself. */
  const stubborn = (directory: string) => `
    trap "" TERM
    setsid bash -c 'echo $$ > ${directory}/far; exec sleep 600' &
    sleep 600 & echo $! > ${directory}/near
    echo $$ > ${directory}/own
    while :; do wait; done`;

  it('that runs out of time', async () => {
    const { like } = await startTask();
    const directory = freshDirectory();
    const told = probe(like, ['bash', '-c', `echo before; ${stubborn(directory)}`], ['--timeout', '1500']);
    const pids = await Promise.all(['far', 'near', 'own'].map((name) => numberIn(join(directory, name))));
    expect(await told).toEqual({ verdict: 'timeout', output: 'before\n' });
    for (const pid of pids) await hasExited(pid);
  });

  it('that ends before what it started', async () => {
    const { like } = await startTask();
    const directory = freshDirectory();
    const { verdict } = await shell(like, `setsid sleep 600 & echo $! > ${directory}/far; exit 0`);
    expect(verdict).toBe('exit 0');
    await hasExited(await numberIn(join(directory, 'far')));
  });

  it('whose agent was killed', async () => {
    const { like } = await startTask();
    const directory = freshDirectory();
    const args = ['--like', like, '--timeout', '600000', '--', 'bash', '-c', stubborn(directory)];
    const agent = runNode(`
      const { spawn } = require('node:child_process');
      spawn(${JSON.stringify(taskShimPath())}, ['--probe', '--agent', String(process.pid), ...${JSON.stringify(args)}],
        { detached: true, stdio: ['ignore', 'pipe', 'ignore'] });
      const { existsSync } = require('node:fs');
      setInterval(() => {
        if (['far', 'near', 'own'].every((name) => existsSync(${JSON.stringify(directory)} + '/' + name))) process.kill(process.pid, 'SIGKILL');
      }, 20);`);
    const pids = await Promise.all(['far', 'near', 'own'].map((name) => numberIn(join(directory, name))));
    expect((await agent).signal).toBe('SIGKILL');
    for (const pid of pids) await hasExited(pid);
  });
});
