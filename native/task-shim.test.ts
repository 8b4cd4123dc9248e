import { type ChildProcess, spawn } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { netnsIdentity, processStartTime, taskShimPath } from './index.ts';
import { cleanUp, freshDirectory, freshNetns, onCleanup, processesBeside, run, waitFor } from './test-support.ts';

afterEach(cleanUp);

interface Started {
  readonly pid: number;
  readonly startTime: number;
  readonly shimPid: number;
  readonly shimStartTime: number;
}

interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly error: string | null;
  readonly left: string | null;
  readonly at: number;
}

interface Task {
  readonly directory: string;
  readonly log: string;
  readonly netns: { name: string; path: string };
  readonly shim: ChildProcess;
  started(): Promise<Started>;
  exit(): Promise<Exit>;
  output(): string;
}

interface Options {
  readonly flags?: string[];
  /** Environment of the task. */
  readonly env?: NodeJS.ProcessEnv;
  /** Environment of the shim itself; empty if absent. */
  readonly shimEnv?: NodeJS.ProcessEnv;
}

/** An environment in the shim's input format. */
const asInput = (env: NodeJS.ProcessEnv) =>
  Object.entries(env)
    .map(([name, value]) => `${name}=${value}\0`)
    .join('');

/** Docker's default without MKNOD; used by every task here unless its flags differ. */
const CAPABILITIES = 'a00425fb';

/** The log, with bounds that no test reaches by accident. */
const logFlags = (log: string, size = 1_000_000, files = 3) => [
  ...['--log', log, '--log-size', `${size}`],
  ...['--log-files', `${files}`],
];

/** Starts `command` under the shim. */
function start(command: string[], { flags: more = [], env = process.env, shimEnv = {} }: Options = {}): Task {
  const netns = freshNetns();
  const directory = freshDirectory();
  const log = join(directory, 'log');
  const flags = ['--netns', netns.path, '--dir', directory, ...logFlags(log), '--capabilities', CAPABILITIES, ...more];
  const shim = spawn(taskShimPath(), [...flags, '--', ...command], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
    env: shimEnv,
  });
  shim.stdin!.on('error', () => {}); // a shim that fails early does not read it
  shim.stdin!.end(asInput(env));
  onCleanup(() => shim.kill('SIGKILL'));
  const report = (name: string) => {
    const path = join(directory, name);
    return waitFor(() => existsSync(path) && JSON.parse(readFileSync(path, 'utf8')), name);
  };
  const output = () => (existsSync(log) ? readFileSync(log, 'utf8') : '');
  return { directory, log, netns, shim, started: () => report('started'), exit: () => report('exit'), output };
}

const shell = (script: string, options?: Parameters<typeof start>[1]) => start(['bash', '-c', script], options);
const hasExited = (pid: number) =>
  waitFor(() => !existsSync(`/proc/${pid}`) || readFileSync(`/proc/${pid}/stat`, 'latin1').includes(') Z '), 'its end');
describe('reports', () => {
  it('the start, and the exit status', async () => {
    const before = Date.now();
    const task = shell('echo out; echo err >&2; sleep 0.2; exit 42');
    const started = await task.started();
    expect(started.shimPid).toBe(task.shim.pid);
    expect(started.shimStartTime).toBe(processStartTime(started.shimPid));
    expect(started.startTime).toBe(processStartTime(started.pid));
    const exit = await task.exit();
    expect(exit).toMatchObject({ code: 42, signal: null, error: null });
    expect(exit.at).toBeGreaterThanOrEqual(before);
    expect(exit.at).toBeLessThanOrEqual(Date.now());
    expect(task.output()).toBe('out\nerr\n');
    await waitFor(() => task.shim.exitCode === 42, 'the shim to end with the same status');
  });

  it('nothing of an earlier run in the same directory', async () => {
    const directory = freshDirectory();
    writeFileSync(join(directory, 'exit'), '{"code":9}');
    writeFileSync(join(directory, 'started'), '{}');
    const task = start(['no-such-program'], { flags: ['--dir', directory] });
    await waitFor(() => task.shim.exitCode !== null, 'the shim to end');
    expect(existsSync(join(directory, 'started'))).toBe(false);
    expect(JSON.parse(readFileSync(join(directory, 'exit'), 'utf8'))).toMatchObject({ code: null });
  });

  it.each([
    ['a daemon with a session of its own', 'setsid sleep 1000 & running sleep; exit 0', 'sleep'],
    ['a child in the background', 'sleep 1000 & running sleep; exit 0', 'sleep'],
    ['a daemon whose parent has ended, too', '(setsid sleep 1000 &); running sleep; exit 0', 'sleep'],
    ['a program with an odd name', 'cp /bin/sleep "$BIN/a) b"; "$BIN/a) b" 1000 & running "a) b"; exit 0', 'a) b'],
    ['nothing', 'sleep 0.01 & wait; exit 0', null],
    ['something after a failure', 'sleep 1000 & running sleep; exit 1', null],
  ])('which process outlived the command: %s', async (_, script, left) => {
    // A fork has the name of the shell until it has become the program.
    const running = 'running() { until grep -qsxF "$1" /proc/[0-9]*/comm; do :; done; }';
    const task = shell(`${running}; ${script}`, { env: { ...process.env, BIN: freshDirectory() } });
    expect(await task.exit()).toMatchObject({ left });
  });

  it('the signal that ended the task', async () => {
    expect(await shell('kill -SEGV $$').exit()).toMatchObject({ code: null, signal: 'SIGSEGV', error: null });
  });

  it.each([
    [['no-such-program'], [], 'exec: no-such-program: No such file or directory'],
    [['/etc/passwd'], [], 'exec: /etc/passwd: Permission denied'],
    [['a"b\\\n'], [], 'exec: a"b\\\n: No such file or directory'],
    [['true'], ['--cwd', '/not/there'], 'cwd: /not/there: No such file or directory'],
    [['true'], ['--user', 'nobody-at-all'], 'user: there is no user of this name on the node'],
    [['true'], ['--user', '4242'], 'user: this uid has no passwd entry; give UID:GID'],
    [['true'], ['--resolv-conf', '/not/there'], 'resolv-conf: /not/there: No such file or directory'],
    [['true'], ['--netns', '/run/netns/not-there'], 'netns: /run/netns/not-there: No such file or directory'],
    [['true'], ['--netns', '/etc/passwd'], 'netns: /etc/passwd: Invalid argument'],
    [['true'], ['--log', '/not/there/log'], 'log: /not/there/log: No such file or directory'],
  ])('the step that failed: %j %j', async (command, flags, error) => {
    const task = start(command, { flags });
    expect(await task.exit()).toMatchObject({ code: null, signal: null, error });
    expect(existsSync(join(task.directory, 'started'))).toBe(false);
    await waitFor(() => task.shim.exitCode === 1, 'the shim to end');
  });

  it('wrong usage with status 2', async () => {
    const complete = ['--netns', 'x', '--dir', '/tmp'];
    const withoutBound = [...complete, '--log', '/tmp/log', '--', 'true'];
    for (const flags of [[], ['--dir', '/tmp', '--', 'true'], complete, ['--wrong'], withoutBound]) {
      const shim = spawn(taskShimPath(), flags, { stdio: 'ignore' });
      expect(await new Promise((resolve) => shim.on('close', resolve))).toBe(2);
    }
  });
});

describe('environment of the task', () => {
  it('is the namespace and the given variables, and nothing of the agent', async () => {
    const descriptor = openSync('/etc/passwd', 'r');
    onCleanup(() => closeSync(descriptor));
    const netns = freshNetns();
    const directory = freshDirectory();
    const log = join(directory, 'log');
    const script =
      'readlink /proc/self/ns/net; echo $MESH_TASK_ID$MESH_NOT_FOR_TASKS; pwd; umask; ' +
      // Builtins only: a program started by the shell may see descriptors that the shell opened or signals it blocked.
      'n=0; while [ $n -lt 1024 ]; do [ -L /proc/$$/fd/$n ] && printf "%s " $n; n=$((n+1)); done; ' +
      'readlink /proc/$$/fd/0; ' +
      'while read -r line; do case $line in SigBlk*|SigIgn*) echo "$line";; esac; done < /proc/$$/status; ' +
      'cut -d" " -f5,6 /proc/$$/stat; echo pid=$$';
    const shim = spawn(
      taskShimPath(),
      ['--netns', netns.path, '--dir', directory, ...logFlags(log), '--cwd', '/usr', '--', 'sh', '-c', script],
      {
        detached: true,
        stdio: ['pipe', 'pipe', 'pipe', descriptor, 'pipe'],
        env: { MESH_NOT_FOR_TASKS: 'x' },
      },
    );
    shim.stdin!.end(asInput({ PATH: process.env['PATH'], MESH_TASK_ID: 't1' }));
    await new Promise((resolve) => shim.on('close', resolve));
    const lines = readFileSync(log, 'utf8').trim().split('\n');
    const pid = /pid=(\d+)/.exec(lines.at(-1)!)![1];
    expect(lines).toEqual([
      `net:[${netnsIdentity(netns.path).ino}]`,
      't1',
      '/usr',
      '0022',
      '0 1 2 /dev/null',
      'SigBlk:\t0000000000000000',
      'SigIgn:\t0000000000000000',
      `${pid} ${pid}`, // a process group and a session of its own
      `pid=${pid}`,
    ]);
  });

  it('has its own /etc/resolv.conf and host name', async () => {
    const before = readFileSync('/etc/resolv.conf', 'utf8');
    const resolv = join(freshDirectory(), 'resolv.conf');
    writeFileSync(resolv, 'nameserver 192.0.2.53\n');
    const task = shell('cat /etc/resolv.conf; uname -n', { flags: ['--resolv-conf', resolv, '--hostname', 'web-1'] });
    await task.exit();
    expect(task.output()).toBe('nameserver 192.0.2.53\nweb-1\n');
    expect(readFileSync('/etc/resolv.conf', 'utf8')).toBe(before);
    expect(run('uname', '-n').trim()).not.toBe('web-1');
  });

  it.each([
    ['nobody', `${run('id', '-u', 'nobody').trim()} ${run('id', '-g', 'nobody').trim()}`],
    ['nobody:daemon', `${run('id', '-u', 'nobody').trim()} ${run('id', '-g', 'daemon').trim()}`],
    ['4242:4343', '4242 4343'],
  ])('drop to the user %s', async (user, ids) => {
    const task = shell('echo $(id -u) $(id -g) $(id -G); grep -E "^(Uid|Gid|CapEff)" /proc/self/status', {
      flags: ['--user', user],
    });
    expect(await task.exit()).toMatchObject({ code: 0 });
    const [uid, gid] = ids.split(' ');
    expect(task.output().split('\n')).toEqual([
      `${uid} ${gid} ${gid}`,
      `Uid:\t${`${uid}\t`.repeat(4).trim()}`,
      `Gid:\t${`${gid}\t`.repeat(4).trim()}`,
      'CapEff:\t0000000000000000',
      '',
    ]);
  });

  it('does not keep a netns pin that is removed while the task runs', async () => {
    const task = shell('exec sleep 1000');
    const { pid } = await task.started();
    const other = freshNetns();
    const inTask = () => readFileSync(`/proc/${pid}/mountinfo`, 'utf8').includes(other.path);
    expect(inTask()).toBe(true);
    run('ip', 'netns', 'del', other.name);
    expect(inTask()).toBe(false);
  });
});

describe('the log', () => {
  /** Sizes of the files of a log, in bytes: the current one first. */
  const sizes = (log: string) =>
    ['', '.1', '.2', '.3'].flatMap((end) => statSync(log + end, { throwIfNoEntry: false })?.size ?? []);

  it('is appended to', async () => {
    const directory = freshDirectory();
    mkdirSync(join(directory, 'logs'));
    const log = join(directory, 'logs/task.log');
    writeFileSync(log, 'earlier\n');
    await shell('echo later', { flags: logFlags(log) }).exit();
    expect(readFileSync(log, 'utf8')).toBe('earlier\nlater\n');
    expect(statSync(log).mode & 0o007).toBe(4); // unchanged
  });

  it('never exceeds its bound, however fast the task writes', async () => {
    const log = join(freshDirectory(), 'log');
    const task = start(['yes', 'a'.repeat(99)], { flags: logFlags(log, 100_000, 3) });
    await task.started();
    const largest = [0, 0, 0];
    await waitFor(() => {
      for (const [index, size] of sizes(log).entries()) largest[index] = Math.max(largest[index]!, size);
      return largest.every((size) => size > 90_000);
    }, 'three full files');
    const { ino } = statSync(`${log}.2`);
    await waitFor(() => statSync(`${log}.2`).ino !== ino, 'further rotations');
    task.shim.kill('SIGTERM');
    await task.exit();
    for (const size of [...sizes(log), ...largest]) expect(size).toBeLessThanOrEqual(100_000);
    expect(sizes(log)).toHaveLength(3);
  });

  const filesOf = (log: string) => [`${log}.2`, `${log}.1`, log].map((file) => readFileSync(file, 'utf8'));

  it('keeps the newest output without a gap', async () => {
    const log = join(freshDirectory(), 'log');
    await shell('seq 1 100000', { flags: logFlags(log, 50_000, 3) }).exit();
    const kept = filesOf(log).join('');
    const whole = Array.from({ length: 100_000 }, (_, index) => `${index + 1}\n`).join('');
    expect(whole.endsWith(kept)).toBe(true);
    expect(kept.length).toBeGreaterThan(100_000);
  });

  it('begins a file with a line that does not fit into the last one', async () => {
    const log = join(freshDirectory(), 'log');
    await shell('for n in {1..3000}; do echo "line $n."; done', { flags: logFlags(log, 10_000, 3) }).exit();
    for (const text of filesOf(log)) expect(text).toMatch(/^(line \d+\.\n)+$/);
  });

  it('with one file starts again when it is full', async () => {
    const log = join(freshDirectory(), 'log');
    await shell('seq 1 10000', { flags: logFlags(log, 20_000, 1) }).exit();
    const lines = readFileSync(log, 'utf8').trim().split('\n');
    expect(lines.at(-1)).toBe('10000');
    expect(sizes(log)).toHaveLength(1);
    expect(sizes(log)[0]).toBeLessThanOrEqual(20_000);
  });

  it('cuts a line that is longer than a file', async () => {
    const log = join(freshDirectory(), 'log');
    await shell('head -c 25000 /dev/zero | tr "\\0" x; echo; echo end', { flags: logFlags(log, 10_000, 3) }).exit();
    expect(filesOf(log)).toEqual(['x'.repeat(10_000), 'x'.repeat(10_000), `${'x'.repeat(5_000)}\nend\n`]);
  });

  it('has what is left in the pipe when the end is reported, also of processes left behind', async () => {
    const script = 'setsid bash -c "while :; do echo more; done" & sleep 0.3; echo last; exit 3';
    const task = shell(script, { flags: ['--log-files', '1'] });
    expect(await task.exit()).toMatchObject({ code: 3 });
    const atExit = task.output();
    await waitFor(() => task.shim.exitCode !== null, 'the shim to end');
    expect(task.output()).toBe(atExit);
    expect(task.output().endsWith('\n')).toBe(true);
  });

  it('of a task of any user can be opened by name', async () => {
    const task = shell('echo out > /dev/stdout; echo err > /dev/stderr', { flags: ['--user', 'nobody'] });
    expect(await task.exit()).toMatchObject({ code: 0 });
    expect(task.output()).toBe('out\nerr\n');
  });

  it('on a full disk loses output and says how much; the task goes on', async () => {
    const disk = freshDirectory();
    run('mount', '-t', 'tmpfs', '-o', 'size=256k', 'none', disk);
    onCleanup(() => run('umount', '-l', disk));
    const log = join(disk, 'log');
    writeFileSync(join(disk, 'ballast'), Buffer.alloc(200 * 1024));
    const go = join(freshDirectory(), 'go');
    const script = 'seq 1 50000; echo done > "$GO"; until [ ! -e "$GO" ]; do sleep 0.02; done; echo after; sleep 1000';
    const task = shell(script, { flags: logFlags(log), env: { ...process.env, GO: go } });
    await waitFor(() => existsSync(go), 'the task to have written everything');
    rmSync(join(disk, 'ballast'));
    rmSync(go);
    await waitFor(() => readFileSync(log, 'utf8').endsWith('after\n'), 'the next line');
    expect(readFileSync(log, 'utf8')).toMatch(
      /mesh-task: \d+ bytes of output are missing here: No space left on device\n(?:.*\n)*after\n$/,
    );
    task.shim.kill('SIGTERM');
  });

  const writeTemporary = () => {
    const path = join(freshDirectory(), 'other');
    writeFileSync(path, '');
    return path;
  };

  it.each([
    ['removed', (log: string) => rmSync(log)],
    ['renamed', (log: string) => renameSync(log, `${log}.old`)],
    ['replaced', (log: string) => renameSync(writeTemporary(), log)],
  ])('that another program has %s gets a new file with the next line', async (_, change) => {
    const go = join(freshDirectory(), 'go');
    const script = 'echo first; until [ -e "$GO" ]; do sleep 0.02; done; echo second; sleep 1000';
    const task = shell(script, { env: { ...process.env, GO: go } });
    await waitFor(() => task.output() === 'first\n', 'the first line');
    change(task.log);
    writeFileSync(go, '');
    await waitFor(() => task.output() === 'second\n', 'the next line');
    task.shim.kill('SIGTERM');
  });

  it('is written on while a file is removed or truncated by another program', async () => {
    const log = join(freshDirectory(), 'log');
    const task = start(['yes', 'a'.repeat(99)], { flags: logFlags(log, 100_000, 3) });
    await waitFor(() => sizes(log).length === 3, 'three files');
    rmSync(`${log}.1`, { force: true });
    truncateSync(log, 0);
    await waitFor(() => sizes(log).length === 3 && existsSync(`${log}.2`), 'three files again');
    for (const size of sizes(log)) expect(size).toBeLessThanOrEqual(100_000);
    task.shim.kill('SIGTERM');
    await task.exit();
  });
});

describe('stopping', () => {
  it.each(['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const)(
    'by %s forwarded to the task',
    async (signal) => {
      const task = shell(`trap 'echo got ${signal}; exit 5' ${signal}; echo ready; while :; do sleep 0.05; done`);
      await waitFor(() => task.output().includes('ready'), 'the trap');
      task.shim.kill(signal);
      expect(await task.exit()).toMatchObject({ code: 5 });
      expect(task.output()).toContain(`got ${signal}`);
    },
  );

  it('sends the configured stop signal instead of SIGTERM', async () => {
    const task = start(['sleep', '1000'], { flags: ['--stop-signal', '3'] });
    await task.started();
    task.shim.kill('SIGTERM');
    expect(await task.exit()).toMatchObject({ code: null, signal: 'SIGQUIT' });
  });

  it('kills all processes that the task left behind', async () => {
    const go = join(freshDirectory(), 'go');
    const task = shell(
      'sleep 1001 & echo same_group=$!; setsid bash -c "echo own_session=\\$\\$; sleep 1002 & echo grandchild=\\$!; wait" & ' +
        'until [ -e "$GO" ]; do sleep 0.02; done; exit 0',
      { env: { ...process.env, GO: go } },
    );
    await waitFor(() => task.output().includes('grandchild='), 'its children');
    const left = processesBeside((await task.started()).pid);
    expect(left.length).toBeGreaterThanOrEqual(5); // process 1, the task, what the output names
    writeFileSync(go, '');
    expect(await task.exit()).toMatchObject({ code: 0, error: null });
    for (const pid of left) expect(existsSync(`/proc/${pid}`)).toBe(false);
  });

  it('reaps orphans while the task runs', async () => {
    const task = shell('(setsid sleep 0.5 & echo orphan=$!); exec sleep 1000');
    const { pid } = await task.started();
    await waitFor(() => processesBeside(pid).length === 3, 'the orphan');
    await waitFor(() => processesBeside(pid).length === 2, 'the orphan to be reaped');
    expect(existsSync(join(task.directory, 'exit'))).toBe(false);
  });

  it.each([[[]], [['--user', 'nobody']]])(
    'kills all processes of the task when the shim is killed %j',
    async (flags) => {
      const task = shell('setsid sleep 1001 & echo child; exec sleep 1000', { flags });
      const { pid } = await task.started();
      await waitFor(() => task.output().includes('child'), 'its child');
      const all = await waitFor(() => processesBeside(pid).length === 3 && processesBeside(pid), 'its child');
      task.shim.kill('SIGKILL');
      for (const each of all) await hasExited(each);
      expect(existsSync(join(task.directory, 'exit'))).toBe(false);
    },
  );

  it('does not depend on the agent: the task keeps running, its output is written and its end is reported', async () => {
    const netns = freshNetns();
    const directory = freshDirectory();
    const log = join(directory, 'log');
    const script = 'trap "echo stopping; exit 4" TERM; while :; do echo tick; sleep 0.02; done';
    const args = ['--netns', netns.path, '--dir', directory, ...logFlags(log), '--', 'bash', '-c', script];
    const agent = spawn(
      process.execPath,
      [
        '-e',
        `require('node:child_process').spawn(${JSON.stringify(taskShimPath())}, ${JSON.stringify(args)},
          { detached: true, stdio: ['pipe', 'ignore', 'ignore'], env: {} }).stdin.end('PATH=/usr/bin:/bin\\0'); setInterval(() => {}, 1000);`,
      ],
      { stdio: 'ignore', detached: true },
    );
    onCleanup(() => agent.kill('SIGKILL'));
    const path = join(directory, 'started');
    const started: Started = await waitFor(() => existsSync(path) && JSON.parse(readFileSync(path, 'utf8')), 'start');
    onCleanup(() => process.kill(started.shimPid, 'SIGKILL'));
    process.kill(-agent.pid!, 'SIGKILL');
    await hasExited(agent.pid!);
    expect(processStartTime(started.pid)).toBe(started.startTime);
    expect(processStartTime(started.shimPid)).toBe(started.shimStartTime);
    const { size } = statSync(log);
    await waitFor(() => statSync(log).size > size, 'more output');
    process.kill(started.shimPid, 'SIGTERM');
    const exit = await waitFor(() => existsSync(join(directory, 'exit')), 'the exit report');
    expect(exit).toBe(true);
    expect(JSON.parse(readFileSync(join(directory, 'exit'), 'utf8'))).toMatchObject({ code: 4, signal: null });
    expect(readFileSync(log, 'utf8')).toMatch(/tick\nstopping\n$/);
  });
});
