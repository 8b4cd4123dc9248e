import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { processStartTime, taskShimPath } from './index.ts';
import {
  cleanUp,
  freshDirectory,
  freshNetns,
  hostPid,
  onCleanup,
  processesBeside,
  runNode,
  waitFor,
} from './test-support.ts';

afterEach(cleanUp);

/** A task in its own netns, as the target of probes. */
async function startTask(): Promise<{ shim: ChildProcess; like: string; pid: number }> {
  const netns = freshNetns();
  const directory = freshDirectory();
  const shim = spawn(taskShimPath(), ['--netns', netns.path, '--dir', directory, '--', '/bin/sleep', '600'], {
    detached: true,
    stdio: 'ignore',
  });
  onCleanup(() => shim.kill('SIGKILL'));
  const path = join(directory, 'started');
  const { pid } = await waitFor(() => existsSync(path) && JSON.parse(readFileSync(path, 'utf8')), 'start');
  return { shim, like: `${shim.pid}:${processStartTime(shim.pid!)}`, pid };
}

interface ProbeReport {
  verdict: string;
  output: string;
}

function probe(like: string, command: string[], flags: string[] = [], env: NodeJS.ProcessEnv = process.env) {
  const own = ['--probe', '--like', like, '--agent', String(process.pid), '--timeout', '20000'];
  const child = spawn(taskShimPath(), [...own, ...flags, '--', ...command], {
    detached: true,
    stdio: ['pipe', 'pipe', 'ignore'],
    env: { MESH_NOT_FOR_TASKS: 'x' },
  });
  child.stdin!.on('error', () => {}); // a prober that fails early does not read it
  child.stdin!.end(
    Object.entries(env)
      .map(([name, value]) => `${name}=${value}\0`)
      .join(''),
  );
  onCleanup(() => child.kill('SIGKILL'));
  let text = '';
  child.stdout!.setEncoding('utf8').on('data', (piece: string) => {
    text += piece;
  });
  const report = new Promise<ProbeReport>((resolve) => {
    child.on('close', () => {
      const end = text.indexOf('\n');
      resolve({ verdict: text.slice(0, end), output: text.slice(end + 1) });
    });
  });
  return report;
}

const shell = (like: string, script: string, flags?: string[], env?: NodeJS.ProcessEnv) =>
  probe(like, ['bash', '-c', script], flags, env);

const hasExited = (pid: number) =>
  waitFor(() => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z '), 'its end');
/** The host's number of a process beside a task that wrote its own number into a file. */
const numberIn = (path: string, task: number) =>
  waitFor(() => existsSync(path) && hostPid(task, Number(readFileSync(path, 'utf8'))), path);

describe('a probe', () => {
  it('reports exit code, signal and output', async () => {
    const { like } = await startTask();
    expect(await shell(like, 'echo out; echo err >&2; exit 3')).toEqual({ verdict: 'exit 3', output: 'out\nerr\n' });
    expect(await shell(like, ':')).toEqual({ verdict: 'exit 0', output: '' });
    expect((await shell(like, 'kill -9 $$')).verdict).toBe('signal SIGKILL');
  });

  it('keeps the first 4096 bytes of output and never blocks on the rest', async () => {
    const { like } = await startTask();
    const { verdict, output } = await shell(like, 'echo first; head -c 1000000 /dev/zero | tr "\\0" x; exit 5');
    expect(verdict).toBe('exit 5');
    expect(Buffer.byteLength(output)).toBe(4096);
    expect(output).toMatch(/^first\nx+$/);
  });

  it('runs in the namespaces of the task, with the given environment, user and directory', async () => {
    const { shim, like, pid } = await startTask();
    const flags = ['--user', 'nobody', '--cwd', '/tmp'];
    const script =
      'readlink /proc/self/ns/net /proc/self/ns/mnt /proc/self/ns/pid; id -un; pwd; echo $GREETING; env | grep -c -e ^HOME= -e NOT_FOR';
    const { output } = await shell(like, script, flags, { GREETING: 'hi', PATH: process.env['PATH'] });
    const [net, mount, processes, ...rest] = output.trim().split('\n');
    expect(net).toBe(readlinkSync(`/proc/${shim.pid}/ns/net`));
    expect(net).not.toBe(readlinkSync('/proc/self/ns/net'));
    expect(processes).toBe(readlinkSync(`/proc/${pid}/ns/pid`));
    expect(processes).not.toBe(readlinkSync('/proc/self/ns/pid'));
    expect(mount).toBe(readlinkSync(`/proc/${shim.pid}/ns/mnt`));
    expect(rest).toEqual(['nobody', '/tmp', 'hi', '0']);
  });

  it('has default signal handling and inherits no descriptor of the agent', async () => {
    const { like } = await startTask();
    const { output } = await shell(like, 'grep -E "^Sig(Blk|Ign)" /proc/self/status; ls /proc/$$/fd; :');
    expect(output).toMatch(/SigBlk:\s0000000000000000/);
    expect(output).toMatch(/SigIgn:\s0000000000000000/);
    expect(output.trim().split('\n').slice(2).map(Number)).toEqual([0, 1, 2]);
  });

  it('reports the failed step when it cannot be run', async () => {
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

describe('no process is left of a probe', () => {
  /** Ignores SIGTERM, has a child in another session, and never ends by itself. */
  const stubborn = (directory: string) => `
    trap "" TERM
    setsid bash -c 'echo $$ > ${directory}/far; exec sleep 600' &
    sleep 600 & echo $! > ${directory}/near
    echo $$ > ${directory}/own
    while :; do wait; done`;

  it('that times out', async () => {
    const { like, pid } = await startTask();
    const directory = freshDirectory();
    const report = probe(like, ['bash', '-c', `echo before; ${stubborn(directory)}`], ['--timeout', '6000']);
    const pids = await Promise.all(['far', 'near', 'own'].map((name) => numberIn(join(directory, name), pid)));
    expect(await report).toEqual({ verdict: 'timeout', output: 'before\n' });
    for (const each of pids) await hasExited(each);
    expect(processesBeside(pid)).toHaveLength(2); // process 1 and the task
  });

  it('that ends before its children', async () => {
    const { like, pid } = await startTask();
    const directory = freshDirectory();
    const script = `setsid sleep 600 & echo $! > ${directory}/far; until [ -e ${directory}/go ]; do sleep 0.02; done`;
    const report = shell(like, script);
    const far = await numberIn(join(directory, 'far'), pid);
    writeFileSync(join(directory, 'go'), '');
    expect((await report).verdict).toBe('exit 0');
    await hasExited(far);
    expect(processesBeside(pid)).toHaveLength(2);
  });

  it('whose agent was killed', async () => {
    const { like, pid } = await startTask();
    const directory = freshDirectory();
    const args = ['--like', like, '--timeout', '600000', '--', 'bash', '-c', stubborn(directory)];
    const agent = runNode(`
      const { spawn } = require('node:child_process');
      spawn(${JSON.stringify(taskShimPath())}, ['--probe', '--agent', String(process.pid), ...${JSON.stringify(args)}],
        { detached: true, stdio: ['pipe', 'pipe', 'ignore'] }).stdin.end('PATH=/usr/bin:/bin\\0');
      const { existsSync } = require('node:fs');
      setInterval(() => {
        if (existsSync(${JSON.stringify(join(directory, 'go'))})) process.kill(process.pid, 'SIGKILL');
      }, 20);`);
    const pids = await Promise.all(['far', 'near', 'own'].map((name) => numberIn(join(directory, name), pid)));
    writeFileSync(join(directory, 'go'), '');
    expect((await agent).signal).toBe('SIGKILL');
    for (const each of pids) await hasExited(each);
    await waitFor(() => processesBeside(pid).length === 2, 'the end of the probe itself');
  });
});
