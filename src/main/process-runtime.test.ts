import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { openSocket, processStartTime, spawnProcess, taskShimPath, watchProcess } from '../kernel/host/process.ts';
import type { AssignedTask } from '../model/assignment.ts';
import { createProcessRuntime } from '../runtime/process.ts';
import type { EndedTask, LiveTask, Runtime, TaskLaunch } from '../runtime/runtime.ts';

// The runtime of src/runtime with the real shim (which src/kernel provides, so only src/main can combine them), in the
// netns of the tests. Each runtime stands for one run of an agent; closing it simulates a crash.

let directory: string;
const runtimes: Runtime[] = [];
const pids = new Set<number>();

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'runtime-'));
});
afterEach(async () => {
  for (const runtime of runtimes.splice(0)) runtime.close();
  for (const pid of pids) if (isAlive(pid)) process.kill(pid, 'SIGKILL');
  pids.clear();
  await waitUntil(() => shims().length === 0);
  rmSync(directory, { recursive: true, force: true });
});

function open(): { runtime: Runtime; ends: EndedTask[]; end(id: string): Promise<EndedTask> } {
  const ends: EndedTask[] = [];
  const system = { taskShimPath, watchProcess, processStartTime, openSocket, spawnProcess };
  const runtime = createProcessRuntime({ directory, system, clock: systemClock, log: silentLog() });
  runtime.onEnd((ended) => ends.push(ended));
  runtimes.push(runtime);
  return { runtime, ends, end: (id) => waitUntil(() => ends.find(({ task }) => task.id === id)) };
}

function task(id: string, script: string, more: Partial<AssignedTask['process']> = {}): AssignedTask {
  return {
    id,
    serviceId: 's1',
    serviceName: 'web',
    slot: 3,
    desired: 'running',
    addresses: [],
    process: { command: ['bash', '-c', script], workingDir: '/', environment: { GREETING: 'hi there' }, ...more },
    targets: [],
    stopGracePeriod: 10_000,
  };
}

const launch = (of: AssignedTask): TaskLaunch => ({
  task: of,
  netnsPath: '/proc/self/ns/net',
  environment: { MESH_NODE: 'node1' },
});

function alive(result: LiveTask | EndedTask): LiveTask {
  if (result.state !== 'live') throw new Error(`ended: ${JSON.stringify(result.exit)}`);
  pids.add(result.pid);
  return result;
}

async function waitUntil<T>(probe: () => T | undefined | false): Promise<T> {
  for (;;) {
    const found = probe();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}

/** Shims that serve a directory of this test; each has a fork of itself in the pid namespace of its task. */
function shims(): number[] {
  const serving = readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .filter((pid) => textOf(`/proc/${pid}/cmdline`).includes(`--dir\0${directory}/`) && isAlive(Number(pid)));
  const parentOf = (pid: string) => /^PPid:\s*(\d+)/m.exec(textOf(`/proc/${pid}/status`))?.[1] ?? '';
  return serving.filter((pid) => !serving.includes(parentOf(pid))).map(Number);
}

function textOf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return ''; // ended meanwhile
  }
}

const logOf = (id: string) => readFileSync(join(directory, id, 'log'), 'utf8');

describe('start', () => {
  it('runs the command with the task’s environment and nothing of ours', async () => {
    process.env['MESHD_TEST_SECRET'] = 'do not leak';
    const { runtime, end } = open();
    await runtime.start(launch(task('a1', 'env; pwd; cat /etc/resolv.conf', { workingDir: '/tmp' })));
    expect((await end('a1')).exit).toMatchObject({ code: 0 });
    const text = logOf('a1');
    expect(text).toContain('GREETING=hi there\n');
    for (const line of ['MESH_TASK_ID=a1', 'MESH_TASK_SLOT=3', 'MESH_SERVICE=web', 'MESH_NODE=node1', 'HOME=/root']) {
      expect(text).toContain(`${line}\n`);
    }
    expect(text).toContain('PATH=/usr/local/sbin:');
    expect(text).toContain('\n/tmp\n');
    expect(text).not.toContain('do not leak');
    if (existsSync('/etc/resolv.conf')) expect(text).toContain(readFileSync('/etc/resolv.conf', 'utf8').trim());
  });

  it('never loads a library that the task’s environment names before it has become the task’s user', async () => {
    const source = join(directory, 'preload.c');
    const library = join(directory, 'preload.so');
    const marker = join(directory, 'marker');
    writeFileSync(
      source,
      `#include <stdio.h>
       #include <unistd.h>
       __attribute__((constructor)) static void loaded(void) {
         FILE *file = fopen("${marker}", "a");
         if (file != NULL) { fprintf(file, "%d\\n", geteuid()); fclose(file); }
       }`,
    );
    execFileSync('gcc', ['-shared', '-fPIC', '-o', library, source]);
    chmodSync(directory, 0o755);
    writeFileSync(marker, '');
    chmodSync(marker, 0o666);
    const { runtime, end } = open();
    const environment = { LD_PRELOAD: library, LD_LIBRARY_PATH: directory };
    const process = { user: 'nobody', environment, command: ['/bin/true'] };
    await runtime.start(launch(task('a1', '', process)));
    expect((await end('a1')).exit).toMatchObject({ code: 0 });
    const uid = execFileSync('id', ['-u', 'nobody'], { encoding: 'utf8' });
    expect(readFileSync(marker, 'utf8')).toBe(uid); // by the task itself, once
  });

  it('reports which step failed when the command cannot be run', async () => {
    const { runtime } = open();
    const result = await runtime.start(launch(task('a1', '', { command: ['/no/such/program'] })));
    expect(result).toMatchObject({
      state: 'ended',
      exit: { error: expect.stringContaining('/no/such/program: No such file') },
    });
  });

  it('never runs a task twice, even if it is started several times', async () => {
    const { runtime } = open();
    const once = launch(task('a1', 'echo started; sleep 60'));
    const results = await Promise.all([runtime.start(once), runtime.start(once)]);
    const again = alive(await runtime.start(once));
    expect(results.map((result) => alive(result).pid)).toEqual([again.pid, again.pid]);
    // The exec is complete when the start is; the command's output follows at any time.
    await waitUntil(() => logOf('a1') !== '');
    expect(logOf('a1')).toBe('started\n');
    expect(shims()).toHaveLength(1);
  });

  it('bounds the log by what the service declares', async () => {
    const { runtime, end } = open();
    await runtime.start(launch(task('a1', 'seq 1 5000', { log: { maxSize: 10_000, maxFiles: 2 } })));
    await end('a1');
    const files = readdirSync(join(directory, 'a1')).filter((name) => name.startsWith('log'));
    expect(files.sort()).toEqual(['log', 'log.1']);
    for (const file of files) expect(statSync(join(directory, 'a1', file)).size).toBeLessThanOrEqual(10_000);
    expect(logOf('a1').endsWith('5000\n')).toBe(true);
  });

  it('starts after a crash between task.json and the start', async () => {
    mkdirSync(join(directory, 'a1'), { recursive: true });
    writeFileSync(join(directory, 'a1', 'task.json'), JSON.stringify({ task: task('a1', 'sleep 60'), bootId: 'x' }));
    const { runtime } = open();
    expect(await runtime.recover()).toEqual([]);
    alive(await runtime.start(launch(task('a1', 'sleep 60'))));
    expect(shims()).toHaveLength(1);
  });

  it('finds a shim whose agent crashed before it recorded the start', async () => {
    const first = open();
    const { pid } = alive(await first.runtime.start(launch(task('a1', 'sleep 60'))));
    first.runtime.close();
    // As if the crash had happened before either file was written.
    rmSync(join(directory, 'a1', 'shim.json'));
    rmSync(join(directory, 'a1', 'started'));
    const second = open();
    const started = second.runtime.start(launch(task('a1', 'sleep 60')));
    expect(await Promise.race([started, new Promise((resolve) => setTimeout(() => resolve('waits'), 300))])).toBe(
      'waits',
    );
    expect(shims()).toHaveLength(1);
    process.kill(pid, 'SIGKILL');
    expect(await started).toMatchObject({ state: 'ended', exit: { signal: 'SIGKILL' } });
  });
});

describe('end', () => {
  it('reports exit codes and signals', async () => {
    const { runtime, end } = open();
    await runtime.start(launch(task('a1', 'exit 3')));
    const killed = alive(await runtime.start(launch(task('a2', 'sleep 60'))));
    process.kill(killed.pid, 'SIGKILL');
    expect(await end('a1')).toMatchObject({ exit: { code: 3 }, stopRequested: false });
    expect(await end('a2')).toMatchObject({ exit: { signal: 'SIGKILL' }, stopRequested: false });
  });

  it('of the shim alone is reported as a failure, and kills the command', async () => {
    const { runtime, end } = open();
    const { pid } = alive(await runtime.start(launch(task('a1', 'sleep 60'))));
    process.kill(shims()[0]!, 'SIGKILL');
    expect((await end('a1')).exit.error).toMatch(/shim of the task was killed/);
    await waitUntil(() => !isAlive(pid));
  });

  it('on request is by SIGTERM, then by SIGKILL after the grace period', async () => {
    const { runtime, end } = open();
    alive(await runtime.start(launch(task('a1', 'trap "exit 7" TERM; echo ready; while :; do sleep 0.05; done'))));
    alive(await runtime.start(launch(task('a2', 'trap "" TERM; echo ready; while :; do sleep 0.05; done'))));
    await waitUntil(() => logOf('a1') !== '' && logOf('a2') !== '');
    runtime.stop('a1', 30_000);
    runtime.stop('a2', 100);
    expect(await end('a1')).toMatchObject({ exit: { code: 7 }, stopRequested: true });
    expect(await end('a2')).toMatchObject({ exit: { signal: 'SIGKILL' }, stopRequested: true });
  });
});

describe('recover', () => {
  it('finds tasks that run, have ended meanwhile, or were being stopped', async () => {
    const first = open();
    const running = alive(await first.runtime.start(launch(task('a1', 'sleep 60'))));
    await first.runtime.start(launch(task('a2', 'read < /tmp/none; sleep 0.2; exit 4')));
    const stopping = alive(
      await first.runtime.start(launch(task('a3', 'trap "" TERM; echo ready; while :; do sleep 0.05; done'))),
    );
    await waitUntil(() => logOf('a3') !== '');
    first.runtime.stop('a3', 60_000);
    first.runtime.close();
    await waitUntil(() => existsSync(join(directory, 'a2', 'exit')));
    const second = open();
    const found = new Map((await second.runtime.recover()).map((process) => [process.task.id, process]));
    expect(found.get('a1')).toMatchObject({ state: 'live', pid: running.pid, stopRequested: false });
    expect(found.get('a2')).toMatchObject({ state: 'ended', exit: { code: 4 } });
    expect(found.get('a3')).toMatchObject({ state: 'live', pid: stopping.pid, stopRequested: true });
    expect(first.ends.filter(({ task }) => task.id !== 'a2')).toEqual([]);
    process.kill(running.pid, 'SIGTERM');
    expect(await second.end('a1')).toMatchObject({ exit: { signal: 'SIGTERM' } });
  });

  it('reports tasks of an earlier boot as such', async () => {
    const dir = join(directory, 'a1');
    mkdirSync(dir, { recursive: true });
    writeFileSync(join(dir, 'task.json'), JSON.stringify({ task: task('a1', 'x'), bootId: 'an earlier one' }));
    writeFileSync(join(dir, 'started'), JSON.stringify({ pid: 1, startTime: 1, shimPid: 1, shimStartTime: 1 }));
    const { runtime } = open();
    const [found] = await runtime.recover();
    expect(found).toMatchObject({ state: 'ended', exit: { error: 'the node was restarted while the task ran' } });
  });

  it('survives damaged files', async () => {
    for (const [id, text] of [
      ['a1', ''],
      ['a2', '{"task":'],
      ['a3', '[]'],
      ['a4', 'null'],
    ] as const) {
      mkdirSync(join(directory, id), { recursive: true });
      writeFileSync(join(directory, id, 'task.json'), text);
    }
    const { runtime } = open();
    expect(await runtime.recover()).toEqual([]);
    expect(readdirSync(directory)).toEqual([]);
  });
});

describe('remove', () => {
  it('deletes the files of an ended task and rejects a live one', async () => {
    const { runtime, end } = open();
    const { pid } = alive(await runtime.start(launch(task('a1', 'sleep 60'))));
    await expect(runtime.remove('a1')).rejects.toThrow(/still runs/);
    process.kill(pid, 'SIGKILL');
    await end('a1');
    await runtime.remove('a1');
    expect(existsSync(join(directory, 'a1'))).toBe(false);
  });

  /** Starts a task that ends by itself, and removes it. */
  async function runAndRemove({ runtime, end }: ReturnType<typeof open>, of: AssignedTask): Promise<void> {
    await runtime.start(launch(of));
    await end(of.id);
    await runtime.remove(of.id);
  }

  it('keeps the log of an ended task, and nothing else of it, over restarts of the agent', async () => {
    await runAndRemove(open(), task('a1', 'echo why it ended; exit 3'));
    expect(logOf('a1')).toBe('why it ended\n');
    expect(readdirSync(join(directory, 'a1')).sort()).toEqual(['ended.json', 'log']);
    writeFileSync(join(directory, 'a1', 'task.json'), '{}'); // as an agent that was killed leaves it
    expect(await open().runtime.recover()).toEqual([]);
    expect(readdirSync(join(directory, 'a1')).sort()).toEqual(['ended.json', 'log']);
  });

  it('keeps the logs of the newest five tasks of a service, also of those that an earlier agent ended', async () => {
    const first = open();
    for (let n = 1; n <= 4; n++) await runAndRemove(first, task(`a${n}`, `echo ${n}`));
    await runAndRemove(first, { ...task('b1', 'echo other'), serviceId: 's2' });
    const second = open();
    expect(await second.runtime.recover()).toEqual([]);
    for (let n = 5; n <= 7; n++) await runAndRemove(second, task(`a${n}`, `echo ${n}`));
    expect(readdirSync(directory).sort()).toEqual(['a3', 'a4', 'a5', 'a6', 'a7', 'b1']);
  });

  it('runs a task again whose log was kept, as after a manager was restored from a backup', async () => {
    const first = open();
    await runAndRemove(first, task('a1', 'echo once'));
    const { pid } = alive(await first.runtime.start(launch(task('a1', 'sleep 60'))));
    expect(await open().runtime.recover()).toMatchObject([{ state: 'live', pid }]);
    expect(logOf('a1')).toBe('once\n');
  });

  it('rejects an invalid task id', async () => {
    const { runtime } = open();
    await expect(runtime.remove('../a1')).rejects.toThrow(/not a task id/);
  });
});

it('hides the environment, the output and the state of a task from other users', async () => {
  const previous = process.umask(0);
  try {
    const { runtime } = open();
    const environment = { PASSWORD: 'wrnSbXkPq7' };
    const started = alive(await runtime.start(launch(task('a1', 'echo $PASSWORD; sleep 60', { environment }))));
    runtime.saveCheckpoint('a1', { startedAt: 5, ports: [] });
    await waitUntil(() => logOf('a1').includes('wrnSbXkPq7'));
    chmodSync(directory, 0o755);
    const asNobody = (...command: string[]) =>
      spawnSync('setpriv', ['--reuid=nobody', '--regid=nogroup', '--clear-groups', ...command], { encoding: 'utf8' })
        .stdout;
    expect(asNobody('find', directory, '-type', 'f', '-readable')).toBe('');
    expect(asNobody('find', directory, '-writable')).toBe('');
    expect(readFileSync(`/proc/${started.pid}/environ`, 'utf8')).toContain('wrnSbXkPq7');
    for (const pid of [started.pid, ...shims()]) expect(asNobody('cat', `/proc/${pid}/environ`)).toBe('');
    for (const shim of shims()) {
      expect(readFileSync(`/proc/${shim}/environ`, 'utf8')).toBe('');
      expect(readFileSync(`/proc/${shim}/cmdline`, 'utf8')).not.toContain('wrnSbXkPq7');
    }
  } finally {
    process.umask(previous);
  }
});

it('makes resolv.conf readable for a task of any user, with any umask of meshd', async () => {
  const previous = process.umask(0o077);
  try {
    chmodSync(directory, 0o755);
    const { runtime, end } = open();
    await runtime.start(launch(task('a1', 'cat /etc/resolv.conf', { user: 'nobody' })));
    expect((await end('a1')).exit).toMatchObject({ code: 0 });
  } finally {
    process.umask(previous);
  }
});

describe('privileges', () => {
  const STATUS = ['bash', '-c', 'grep -E "^(Cap|NoNewPrivs)" /proc/self/status; sleep 60'];

  async function privilegesOf(more: Partial<AssignedTask['process']>): Promise<Record<string, string>> {
    const { runtime } = open();
    alive(await runtime.start(launch(task('a1', '', { command: STATUS, ...more }))));
    await waitUntil(() => logOf('a1').includes('NoNewPrivs'));
    const probed = await runtime.probe(
      'a1',
      { kind: 'command', command: [...STATUS.slice(0, 2), `${STATUS[2]!.split(';')[0]}`] },
      20_000,
    );
    expect(probed).toEqual({ ok: true, output: logOf('a1').trim() });
    return Object.fromEntries(
      logOf('a1')
        .trim()
        .split('\n')
        .map((line) => line.split(/:\s+0*(?=.)/) as [string, string]),
    );
  }
  const DEFAULT = 'a00425fb';
  const NET_ADMIN = '1000';

  it.each<[string, Partial<AssignedTask['process']>, Record<string, string>]>([
    ['root', {}, { CapEff: DEFAULT, CapPrm: DEFAULT, CapBnd: DEFAULT, CapInh: '0', CapAmb: '0', NoNewPrivs: '1' }],
    ['a user', { user: 'nobody' }, { CapEff: '0', CapPrm: '0', CapBnd: DEFAULT, CapAmb: '0', NoNewPrivs: '1' }],
    ['cap_drop', { capDrop: ['ALL'] }, { CapEff: '0', CapPrm: '0', CapBnd: '0', NoNewPrivs: '1' }],
    [
      'cap_add',
      { capDrop: ['ALL'], capAdd: ['NET_ADMIN'] },
      { CapEff: NET_ADMIN, CapBnd: NET_ADMIN, CapAmb: '0', NoNewPrivs: '1' },
    ],
    [
      'cap_add of a user',
      { user: 'nobody', capDrop: ['ALL'], capAdd: ['NET_ADMIN'] },
      { CapEff: NET_ADMIN, CapPrm: NET_ADMIN, CapBnd: NET_ADMIN, CapAmb: NET_ADMIN, NoNewPrivs: '1' },
    ],
  ])('of %s, for the task and its probes', async (_, more, expected) => {
    expect(await privilegesOf(more)).toMatchObject(expected);
  });

  it('of a privileged task are those of meshd', async () => {
    const own = /^CapBnd:\s+0*(\w+)/m.exec(readFileSync('/proc/self/status', 'utf8'))![1];
    expect(await privilegesOf({ privileged: true })).toMatchObject({ CapEff: own, CapBnd: own, NoNewPrivs: '0' });
  });

  it.each([
    ['set-user-id bit', (path: string) => chmodSync(path, 0o4755)],
    ['file capability', (path: string) => execFileSync('setcap', ['cap_setuid=ep', path])],
  ])('a program with a %s grants none, unless the task is privileged', async (_, mark) => {
    chmodSync(directory, 0o755);
    const program = join(directory, 'grep');
    copyFileSync('/bin/grep', program);
    chmodSync(program, 0o755);
    mark(program);
    const { runtime, end } = open();
    const command = [program, '-E', '^(Uid|CapEff):', '/proc/self/status'];
    const plain = { user: 'nobody', command };
    await runtime.start(launch(task('a1', '', plain)));
    await runtime.start(launch(task('a2', '', { ...plain, privileged: true })));
    await Promise.all([end('a1'), end('a2')]);
    const unprivileged = 'Uid:\t65534\t65534\t65534\t65534\nCapEff:\t0000000000000000\n';
    expect(logOf('a1')).toBe(unprivileged);
    expect(logOf('a2')).not.toBe(unprivileged);
  });

  it('a task sees only its own processes, is not process 1 itself, and cannot affect its shim', async () => {
    const { runtime, end } = open();
    const script = 'cd /proc; echo $$; echo [0-9]*; kill -9 1; readlink 1/exe || echo hidden; kill -0 2 && echo alive';
    await runtime.start(launch(task('a1', script)));
    expect((await end('a1')).exit).toMatchObject({ code: 0 });
    expect(logOf('a1')).toBe('2\n1 2\nhidden\nalive\n');
  });

  it('a mount of a task is private to it', async () => {
    const { runtime, end } = open();
    const script = `mount -t tmpfs none ${directory} && findmnt -n -o FSTYPE ${directory}`;
    await runtime.start(launch(task('a1', script, { capAdd: ['SYS_ADMIN'] })));
    expect((await end('a1')).exit).toMatchObject({ code: 0 });
    expect(logOf('a1')).toBe('tmpfs\n');
    expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(directory);
  });
});
