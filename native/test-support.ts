/** Helpers shared by the tests of this folder: unique names, cleanup, hand-made netlink bytes. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { createNetns, deleteNetns } from './index.ts';

const addonPath: string = join(dirname(fileURLToPath(import.meta.url)), 'build/Release/mesh.node');

let counter = 0;
const cleanupSteps: (() => void)[] = [];

/** Registers a cleanup to run after the test, last registered first. */
export function onCleanup(step: () => void): void {
  cleanupSteps.push(step);
}

/** Runs all registered cleanups; call it in afterEach. */
export function cleanUp(): void {
  for (const step of cleanupSteps.splice(0).reverse()) {
    try {
      step();
    } catch {
      // Already removed by the test itself.
    }
  }
}

/** A name not used by other tests or processes, short enough for a link. */
export function uniqueName(prefix: string): string {
  counter += 1;
  return `${prefix}${process.pid.toString(36)}x${counter}`;
}

/** A new namespace in /run/netns, removed after the test. */
export function freshNetns(): { name: string; path: string } {
  const name = uniqueName('mt');
  const path = `/run/netns/${name}`;
  createNetns(path);
  onCleanup(() => deleteNetns(path));
  return { name, path };
}

/** Host's numbers of the processes in the pid namespace of a process. */
export function processesBeside(pid: number): number[] {
  const namespace = pidNamespace(pid);
  return namespace === undefined ? [] : processes().filter((other) => pidNamespace(other) === namespace);
}

/** Host's number of the process with number `inner` in the pid namespace of `pid`. */
export function hostPid(pid: number, inner: number): number | undefined {
  return processesBeside(pid).find((other) => new RegExp(`^NSpid:.*\t${inner}$`, 'm').test(readStatus(other)));
}

function readStatus(pid: number): string {
  try {
    return readFileSync(`/proc/${pid}/status`, 'utf8');
  } catch {
    return ''; // ended meanwhile
  }
}

function processes(): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number);
}

function pidNamespace(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/ns/pid`);
  } catch {
    return undefined; // ended meanwhile
  }
}

/** A directory removed after the test. */
export function freshDirectory(): string {
  const directory = mkdtempSync(join(tmpdir(), 'mesh-native-'));
  onCleanup(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** Runs a command to its end; throws with its output when it fails. */
export function run(command: string, ...args: string[]): string {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  if (result.status !== 0) throw new Error(`${command} ${args.join(' ')}: ${result.stderr}${result.error ?? ''}`);
  return result.stdout;
}

/** Runs a script in a separate Node process, `mesh` being the addon at `addonPath`; resolves when it has exited. */
export function runNode(
  script: string,
  flags: string[] = [],
): Promise<{ status: number | null; signal: string | null; output: string }> {
  const source = `const addonPath = ${JSON.stringify(addonPath)}; const mesh = require(addonPath);\n${script}`;
  const child = spawn(process.execPath, [...flags, '-e', source], { stdio: ['ignore', 'pipe', 'pipe'] });
  onCleanup(() => child.kill('SIGKILL'));
  let output = '';
  child.stdout.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  child.stderr.on('data', (chunk: Buffer) => {
    output += chunk.toString();
  });
  return new Promise((resolve) => {
    child.on('close', (status, signal) => resolve({ status, signal, output }));
  });
}

/** Polls until `probe` returns a value; the generous limit only stops a failing run. */
export async function waitFor<T>(probe: () => T | undefined | false | null, description: string): Promise<T> {
  for (let attempt = 0; attempt < 2000; attempt++) {
    const value = probe();
    if (value !== undefined && value !== false && value !== null) return value;
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
  throw new Error(`timed out waiting for ${description}`);
}

export const NETLINK_ROUTE = 0;
export const RTM_NEWLINK = 16;
export const RTM_DELLINK = 17;
export const RTM_GETLINK = 18;
export const NLMSG_ERROR = 2;
export const NLMSG_DONE = 3;
const NLM_F_REQUEST = 1;
const NLM_F_ACK = 4;
export const NLM_F_DUMP = 0x300;

/** One request: nlmsghdr and ifinfomsg (linux/netlink.h, linux/rtnetlink.h). */
export function linkRequest(type: number, flags: number, sequence: number, index = 0, change = 0): Buffer {
  const message = Buffer.alloc(32);
  message.writeUInt32LE(32, 0);
  message.writeUInt16LE(type, 4);
  message.writeUInt16LE(NLM_F_REQUEST | flags, 6);
  message.writeUInt32LE(sequence, 8);
  message.writeInt32LE(index, 20);
  message.writeUInt32LE(change, 24); // ifi_flags
  message.writeUInt32LE(change, 28); // ifi_change
  return message;
}

/** The same with an acknowledgement requested. */
export function acknowledged(type: number, sequence: number, index: number): Buffer {
  return linkRequest(type, NLM_F_ACK, sequence, index);
}

export interface Message {
  readonly type: number;
  readonly flags: number;
  readonly sequence: number;
  readonly body: Buffer;
}

/** Splits one datagram into its messages. */
export function parse(datagram: Buffer): Message[] {
  const messages: Message[] = [];
  for (let at = 0; at + 16 <= datagram.length; ) {
    const length = datagram.readUInt32LE(at);
    messages.push({
      type: datagram.readUInt16LE(at + 4),
      flags: datagram.readUInt16LE(at + 6),
      sequence: datagram.readUInt32LE(at + 8),
      body: datagram.subarray(at + 16, at + length),
    });
    at += (length + 3) & ~3;
  }
  return messages;
}

/** IFLA_IFNAME (3) of a link message. */
export function linkName(message: Message): string | undefined {
  for (let at = 16; at + 4 <= message.body.length; ) {
    const length = message.body.readUInt16LE(at);
    if (message.body.readUInt16LE(at + 2) === 3) return message.body.toString('latin1', at + 4, at + length - 1);
    at += (length + 3) & ~3;
  }
  return undefined;
}
