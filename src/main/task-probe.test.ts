import { execFileSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { systemClock } from '../base/clock.ts';
import { silentLog } from '../base/log.ts';
import { openSocket, processStartTime, spawnProcess, taskShimPath, watchProcess } from '../kernel/host/process.ts';
import type { AssignedTask } from '../model/assignment.ts';
import type { HealthProbe } from '../model/spec.ts';
import { createProcessRuntime } from '../runtime/process.ts';
import type { Runtime } from '../runtime/runtime.ts';

// Health probes on the real shim and real sockets, in a netns of the test's own.

let directory: string;
let netns: string;
let runtime: Runtime;
let count = 0;
const OWN = '10.99.99.2';

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'probe-'));
  count += 1;
  netns = `pt${process.pid.toString(36)}x${count}`;
  execFileSync('ip', ['netns', 'add', netns]);
  for (const line of ['link set lo up', `addr add ${OWN}/32 dev lo`]) {
    execFileSync('ip', ['-n', netns, ...line.split(' ')]);
  }
  runtime = open();
});
afterEach(async () => {
  const ended = new Promise((resolve) => runtime.onEnd(resolve));
  runtime.stop('a1', 0);
  await ended;
  runtime.close();
  execFileSync('ip', ['netns', 'del', netns]);
  rmSync(directory, { recursive: true, force: true });
});

function open(): Runtime {
  const system = { taskShimPath, watchProcess, processStartTime, openSocket, spawnProcess };
  return createProcessRuntime({ directory, system, clock: systemClock, log: silentLog() });
}

/** A server whose responses are set by a file: `404 gone`, `hang`. */
const SERVER = `
  const { createServer } = require('node:http');
  const { readFileSync } = require('node:fs');
  const server = createServer((request, response) => {
    const [status, ...words] = readFileSync(process.env.ANSWER, 'utf8').split(' ');
    if (status === 'hang') return;
    response.writeHead(Number(status), { location: '/elsewhere', 'x-seen': request.headers.host });
    if (words[0] === 'endless') setInterval(() => response.write('y'.repeat(5_000)), 5);
    else response.end(words.join(' ') + (request.url === '/path?q=1' ? '' : ' for ' + request.url));
  });
  server.listen(80, process.env.BIND, () => console.log('listening'));`;

async function start(options: { bind?: string; answer?: string; command?: string[]; user?: string } = {}) {
  const answer = join(directory, 'answer');
  writeFileSync(answer, options.answer ?? '200 fine');
  const task: AssignedTask = {
    id: 'a1',
    serviceId: 's1',
    serviceName: 'web',
    slot: 1,
    desired: 'running',
    addresses: [{ networkId: 'n1', address: OWN }],
    process: {
      command: options.command ?? [process.execPath, '-e', SERVER],
      workingDir: '/tmp',
      ...(options.user === undefined ? {} : { user: options.user }),
      environment: { ANSWER: answer, BIND: options.bind ?? '127.0.0.1', GREETING: 'hi there' },
    },
    targets: [],
    stopGracePeriod: 10_000,
  };
  const started = await runtime.start({ task, netnsPath: `/run/netns/${netns}`, environment: { MESH_NODE: 'node1' } });
  expect(started.state).toBe('live');
  const log = join(directory, 'a1', 'log');
  if (options.command === undefined) while (!readFileSync(log, 'utf8').includes('listening')) await sleep(20);
  return { answer: (text: string) => writeFileSync(answer, text) };
}

/** Names of all processes in the task's pid namespace but those of the probe that lists them. */
async function commandsOfTask(): Promise<string[]> {
  const { output } = await probe(shell('for p in /proc/[0-9]*; do read -r n < $p/comm; echo $n; done'));
  const names = output.split('\n');
  for (const own of ['sh', 'mesh-task']) names.splice(names.lastIndexOf(own), 1);
  return names;
}

const sleep = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const probe = (what: HealthProbe, timeout = 20_000) => runtime.probe('a1', what, timeout);
const http: HealthProbe = { kind: 'http', port: 80, path: '/path?q=1' };
const shell = (command: string): HealthProbe => ({ kind: 'shell', command });
const idle = { command: ['sleep', '600'] };

describe('a command', () => {
  it('runs with the user, environment and namespaces of the task', async () => {
    await start({ ...idle, user: 'nobody' });
    const script = 'id -un; pwd; echo $GREETING $MESH_NODE $MESH_TASK_ID; ip -br addr show lo; exit 1';
    const { ok, output } = await probe(shell(script));
    expect(ok).toBe(false);
    expect(output).toMatch(/^exit code 1: nobody\n\/tmp\nhi there node1 a1\nlo .*10\.99\.99\.2\/32/);
  });

  it('is healthy with exit code 0 only', async () => {
    await start(idle);
    expect(await probe({ kind: 'command', command: ['true'] })).toEqual({ ok: true, output: '' });
    expect(await probe({ kind: 'command', command: ['false'] })).toEqual({ ok: false, output: 'exit code 1' });
    expect(await probe(shell('exec kill -TERM $$'))).toEqual({ ok: false, output: 'killed by SIGTERM' });
    expect((await probe({ kind: 'command', command: ['/no/such'] })).output).toMatch(/^exec: \/no\/such: No such file/);
  });

  it('is killed after the timeout, with all processes it started', async () => {
    await start(idle);
    const { ok, output } = await probe(shell('echo early; sleep 601 & wait'), 1_000);
    expect({ ok, output }).toEqual({ ok: false, output: 'no answer within 1 s: early' });
    expect((await commandsOfTask()).sort()).toEqual(['mesh-task', 'sleep']);
  });

  it('is killed when the agent exits', async () => {
    await start(idle);
    const begun = join(directory, 'begun');
    const result = probe(shell(`: > ${begun}; sleep 601`), 600_000);
    while (!existsSync(begun)) await sleep(20);
    runtime.close();
    expect(await result).toEqual({ ok: false, output: 'the probe was killed' });
    runtime = open();
    await runtime.recover();
    expect((await commandsOfTask()).sort()).toEqual(['mesh-task', 'sleep']);
  });

  it('has the same environment after a restart of the agent', async () => {
    await start(idle);
    runtime.close();
    runtime = open();
    await runtime.recover();
    expect(await probe(shell('echo $GREETING $MESH_NODE'))).toEqual({ ok: true, output: 'hi there node1' });
  });
});

describe('tcp', () => {
  it('is healthy when the connection is accepted, on loopback or the task’s own address', async () => {
    await start({ bind: OWN });
    expect(await probe({ kind: 'tcp', port: 80 })).toEqual({ ok: true, output: `connected to ${OWN}:80` });
    expect(await probe({ kind: 'tcp', port: 81 })).toMatchObject({
      ok: false,
      output: 'connect ECONNREFUSED 127.0.0.1:81',
    });
  });

  it('prefers loopback', async () => {
    await start({ bind: '0.0.0.0' });
    expect(await probe({ kind: 'tcp', port: 80 })).toEqual({ ok: true, output: 'connected to 127.0.0.1:80' });
  });
});

describe('http', () => {
  it('is healthy with status 200 to 399, and reports any other', async () => {
    const server = await start();
    expect(await probe(http)).toEqual({ ok: true, output: 'HTTP 200 OK' });
    server.answer('302 there');
    expect(await probe(http)).toEqual({ ok: true, output: 'HTTP 302 Found' });
    server.answer('404 nothing here');
    expect(await probe(http)).toEqual({ ok: false, output: 'HTTP 404 Not Found: nothing here' });
    server.answer('503 not yet');
    expect(await probe({ ...http, path: '/ready' })).toEqual({
      ok: false,
      output: 'HTTP 503 Service Unavailable: not yet for /ready',
    });
  });

  it('fails on a timeout, and limits the size of a response', async () => {
    const server = await start({ answer: 'hang' });
    expect(await probe(http, 300)).toEqual({ ok: false, output: 'no answer within 0.3 s' });
    server.answer('500 endless');
    const { ok, output } = await probe(http);
    expect(ok).toBe(false);
    expect(output).toMatch(/^HTTP 500 Internal Server Error: y+$/);
    expect(output.length).toBeLessThan(5_000);
    server.answer('200 endless');
    expect(await probe(http)).toEqual({ ok: true, output: 'HTTP 200 OK' });
  });

  it('fails for a response that is not HTTP, and for an invalid path', async () => {
    const script =
      "require('node:net').createServer((s) => s.on('error', () => {}).once('data', () => s.end('hello'))).listen(80, () => console.log('listening'))";
    await start({ command: [process.execPath, '-e', script] });
    while (!(await probe({ kind: 'tcp', port: 80 })).ok) await sleep(20);
    expect((await probe(http)).output).toMatch(/Parse Error/);
    expect((await probe({ ...http, path: '/a b' })).ok).toBe(false);
  });
});

it('stores the checkpoint of a task atomically for the next agent', async () => {
  await start(idle);
  const note = {
    startedAt: 5,
    health: 'healthy' as const,
    ports: [{ protocol: 'tcp' as const, target: 80, published: 61_000 }],
  };
  runtime.saveCheckpoint('a1', note);
  runtime.close();
  runtime = open();
  expect(await runtime.recover()).toMatchObject([{ state: 'live', note }]);
});
