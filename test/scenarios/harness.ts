// Access for tests to the running mesh of three nodes and a client, as created by test/host/mesh.
import { type ChildProcess, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { Readable } from 'node:stream';
import { setTimeout as pause } from 'node:timers/promises';
import type { Io } from '../../src/cli/io.ts';
import { runMeshctl } from '../../src/cli/run.ts';
import { socketPath } from '../torture/queries.ts';
import type { LoadStats, ProbeRequest, ProbeResponse } from './probe-protocol.ts';

export interface CommandResult {
  status: number;
  stdout: string;
  stderr: string;
}

/** Runs a command to its end; never rejects because of its exit status. */
export function run(command: string, args: readonly string[], input?: string): Promise<CommandResult> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ status: code ?? (signal === null ? 1 : 128), stdout, stderr }));
    child.stdin.on('error', () => {}); // the command may end without reading
    child.stdin.end(input ?? '');
  });
}

/** Runs a command inside a host of the mesh: node1, node2 … or client. */
export function runOn(host: string, ...command: string[]): Promise<CommandResult> {
  return run('on', [host, ...command]);
}

/** Standard output of a command; throws if it fails. */
export async function stdoutOf(result: Promise<CommandResult>): Promise<string> {
  const { status, stdout, stderr } = await result;
  if (status !== 0) throw new Error(`exit status ${status}: ${stderr || stdout}`);
  return stdout;
}

/**
 * Runs meshctl on that host, but inside this process: on the test host, starting a program takes longer than meshctl
 * itself. `run('meshctl', …)` starts the real one.
 */
export async function meshctlOn(host: string, args: readonly string[], input = ''): Promise<CommandResult> {
  const outcome = { status: 0, stdout: '', stderr: '' };
  const io: Io = {
    out(text) {
      outcome.stdout += text;
    },
    err(text) {
      outcome.stderr += text;
    },
    raw(text) {
      outcome.stdout += text;
    },
    terminal: false,
    columns: 80,
    rows: 24,
    colour: false,
    environment: { ...process.env, MESHCTL_HOST: `unix://${socketPath(host)}` },
    input: Readable.from([Buffer.from(input)]),
    now: Date.now,
    sleep: (ms, signal) => pause(ms, undefined, { signal }).catch(() => {}),
    onInterrupt: () => () => {},
  };
  outcome.status = await runMeshctl(args, io);
  return outcome;
}

export function meshctl(...args: string[]): Promise<CommandResult> {
  return meshctlOn('node1', args);
}

export function applyManifest(manifest: string, ...options: string[]): Promise<CommandResult> {
  return meshctlOn('node1', ['apply', ...options, '-'], manifest);
}

/** Rows of a listing verb. */
export async function listRows(...verb: string[]): Promise<Record<string, unknown>[]> {
  return JSON.parse(await stdoutOf(meshctl(...verb, '--format', 'json')));
}

export const sleep = (ms: number) => new Promise<void>((resolve) => setTimeout(resolve, ms));

/** Limits are for a quiet machine; on a busy one, an emulated kernel takes several times as long. */
const BUSY_FACTOR = 4;

/**
 * Polls until the probe returns a value; throws with the last result after `expected` ms times BUSY_FACTOR. Most of the
 * time is left to what it waits for: an emulated processor is busy for tens of milliseconds with one question.
 */
export async function waitFor<T>(
  description: string,
  expected: number,
  probe: () => Promise<T | undefined | false>,
): Promise<T> {
  const timeout = expected * BUSY_FACTOR;
  const deadline = performance.now() + timeout;
  let last: unknown;
  for (;;) {
    const asked = performance.now();
    try {
      const lastValue = await probe();
      if (lastValue !== undefined && lastValue !== false) return lastValue;
      last = lastValue;
    } catch (error) {
      last = error;
    }
    if (performance.now() > deadline)
      throw new Error(`timed out after ${timeout} ms waiting for ${description} (last result: ${String(last)})`);
    await sleep(Math.max(50, 4 * (performance.now() - asked)));
  }
}

export interface ProbeClient {
  http(url: string, options?: { timeout?: number; localPort?: number; localAddress?: string }): Promise<string>;
  udp(host: string, port: number, timeout?: number): Promise<string>;
  startLoad(
    name: string,
    urls: string[],
    options?: { parallel?: number; keepAlive?: boolean; timeout?: number; pause?: number },
  ): Promise<void>;
  stopLoad(name: string): Promise<LoadStats>;
  hold(name: string, host: string, port: number): Promise<void>;
  request(name: string): Promise<string>;
  release(name: string): Promise<void>;
  close(): void;
}

/** Starts a probe inside a host. */
export function startProbe(host: string, program: string): ProbeClient {
  const child: ChildProcess = spawn('on', [host, 'node', program], { stdio: ['pipe', 'pipe', 'inherit'] });
  const waiting = new Map<number, { resolve(value: unknown): void; reject(error: Error): void }>();
  let next = 0;
  createInterface({ input: child.stdout! }).on('line', (line) => {
    const answer = JSON.parse(line) as ProbeResponse;
    const waiter = waiting.get(answer.id);
    waiting.delete(answer.id);
    if (answer.ok) waiter?.resolve(answer.value);
    else waiter?.reject(new Error(answer.error));
  });
  child.once('close', () => {
    for (const waiter of waiting.values()) waiter.reject(new Error(`the probe in ${host} ended`));
    waiting.clear();
  });
  const send = <T>(order: ProbeRequest): Promise<T> =>
    new Promise((resolve, reject) => {
      next += 1;
      waiting.set(next, { resolve: resolve as (value: unknown) => void, reject });
      child.stdin!.write(`${JSON.stringify({ ...order, id: next })}\n`);
    });
  return {
    http: (url, options = {}) => send({ op: 'http', url, timeout: 10_000, ...options }),
    udp: (address, port, timeout = 5_000) => send({ op: 'udp', host: address, port, timeout }),
    startLoad: (name, urls, options = {}) =>
      send({ op: 'load', name, urls, parallel: 1, keepAlive: false, timeout: 10_000, pause: 0, ...options }),
    stopLoad: (name) => send({ op: 'load-stop', name }),
    hold: (name, address, port) => send({ op: 'hold', name, host: address, port }),
    request: (name) => send({ op: 'request', name }),
    release: (name) => send({ op: 'release', name }),
    close: () => child.stdin!.end(),
  };
}

/** Parses `web.2 k3… on node3 sees 172.30.0.100 41234`. */
export function parseWhoami(text: string): { task: string; id: string; node: string; address: string; port: number } {
  const match = /^(\S+) (\S+) on (\S+) sees (\S+) (\d+)$/.exec(text);
  if (!match) throw new Error(`not a response of whoami: ${text}`);
  const [, task, id, node, address, port] = match as unknown as [string, string, string, string, string, string];
  return { task, id, node, address, port: Number(port) };
}

/** IPv4 addresses of the hosts, as test/host/mesh exports them. */
export function addressOf(host: string): string {
  const address = process.env[host.toUpperCase()];
  if (address === undefined) throw new Error(`${host.toUpperCase()} is not set: run this through \`make mesh\``);
  return address;
}

export const nodeNames = (): string[] =>
  Array.from({ length: Number(process.env['MESH_NODES'] ?? 3) }, (_, index) => `node${index + 1}`);
