import { closeSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { Socket } from 'node:net';
import { messageOf } from '../base/errors.ts';
import { familyOf, type IpAddress } from '../model/address.ts';
import type { HealthProbe } from '../model/spec.ts';
import type { ProbeResult } from './runtime.ts';
import type { ProcessId } from './task-dir.ts';

export interface SocketPlace {
  /** The shim of the task. */
  shim: ProcessId;
  /** A TCP socket in the netns of a process, not yet connected; `family` as in AF_INET (2), AF_INET6 (10). */
  openSocket(options: { netns: { pid: number }; family: number }): number;
  processStartTime(pid: number): number | undefined;
}

/** Bytes of an answer that are looked at. */
const ANSWER_LIMIT = 4_096;
const AF = { inet: 2, inet6: 10 } as const;

/** Healthy when a connection is accepted; it is closed at once. */
export function probeByTcp(
  place: SocketPlace,
  addresses: readonly IpAddress[],
  port: number,
  timeout: number,
  signal: AbortSignal,
): Promise<ProbeResult> {
  return within(timeout, signal, async (track) => {
    const { address } = await connected(place, addresses, port, track);
    return { ok: true, output: `connected to ${written(address, port)}` };
  });
}

/** Healthy when GET answers 200-399; where it redirects to is not looked at. */
export function probeByHttp(
  place: SocketPlace,
  addresses: readonly IpAddress[],
  { port, path }: Extract<HealthProbe, { kind: 'http' }>,
  timeout: number,
  signal: AbortSignal,
): Promise<ProbeResult> {
  return within(timeout, signal, async (track) => {
    const { socket } = await connected(place, addresses, port, track);
    const headers = { host: port === 80 ? 'localhost' : `localhost:${port}`, 'user-agent': 'meshd-health' };
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request({ createConnection: () => socket, path, headers, maxHeaderSize: 4 * ANSWER_LIMIT }, resolve);
      sent.once('error', reject);
      sent.end();
    });
    // What comes after the head may break off: the answer is known.
    response.on('error', () => {});
    const { statusCode = 0, statusMessage = '' } = response;
    const status = `HTTP ${statusCode} ${statusMessage}`.trim();
    if (statusCode >= 200 && statusCode < 400) return { ok: true, output: status };
    const body = await beginning(response, track);
    return { ok: false, output: body === '' ? status : `${status}: ${body}` };
  });
}

/** Takes what a probe opens, so that it is closed whatever happens. */
interface Track {
  socket(socket: Socket): void;
  /** Resolves when time is up. */
  timeUp: Promise<void>;
}

async function within(
  timeout: number,
  signal: AbortSignal,
  probe: (track: Track) => Promise<ProbeResult>,
): Promise<ProbeResult> {
  const sockets: Socket[] = [];
  let end = () => {};
  const timeUp = new Promise<void>((resolve) => {
    end = resolve;
  });
  const timer = setTimeout(end, timeout);
  signal.addEventListener('abort', end);
  if (signal.aborted) end();
  const failed = (output: string): ProbeResult => ({ ok: false, output });
  try {
    return await Promise.race([
      probe({ socket: (socket) => void sockets.push(socket), timeUp }).catch((thrown) => failed(messageOf(thrown))),
      // A probe that knows its answer by now comes first.
      timeUp
        .then(() => new Promise<void>((resolve) => setImmediate(resolve)))
        .then(() => failed(`no answer within ${timeout / 1000} s`)),
    ]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
    for (const socket of sockets) socket.destroy();
  }
}

/** 127.0.0.1 first; a task that listens only on an address of its own refuses there and is asked on that one. */
async function connected(
  place: SocketPlace,
  own: readonly IpAddress[],
  port: number,
  track: Track,
): Promise<{ socket: Socket; address: IpAddress }> {
  const loopback = own.some((address) => familyOf(address) === 'inet6') ? ['127.0.0.1', '::1'] : ['127.0.0.1'];
  let refusal: unknown;
  for (const address of [...loopback, ...own]) {
    try {
      return { socket: await connect(place, address, port, track), address };
    } catch (thrown) {
      // EAFNOSUPPORT, EADDRNOTAVAIL: a host without that family.
      const { code } = thrown as NodeJS.ErrnoException;
      if (code !== 'ECONNREFUSED' && code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL') throw thrown;
      refusal ??= thrown;
    }
  }
  throw refusal;
}

function connect(place: SocketPlace, address: IpAddress, port: number, track: Track): Promise<Socket> {
  const { shim } = place;
  const fd = place.openSocket({ netns: { pid: shim.pid }, family: AF[familyOf(address)] });
  // The socket holds the netns of whoever has the number now; only then is looking safe.
  if (place.processStartTime(shim.pid) !== shim.startTime) {
    closeSync(fd);
    return Promise.reject(new Error('the task has ended'));
  }
  const socket = new Socket({ fd, readable: true, writable: true });
  track.socket(socket);
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.connect({ host: address, port }, () => {
      socket.off('error', reject);
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}

/** What an answer begins with; what has come when time is up. */
async function beginning(response: IncomingMessage, { timeUp }: Track): Promise<string> {
  const pieces: Buffer[] = [];
  let length = 0;
  const end = new Promise<void>((resolve) => {
    response.on('data', (piece: Buffer) => {
      pieces.push(piece);
      length += piece.length;
      if (length >= ANSWER_LIMIT) resolve();
    });
    response.once('close', resolve);
  });
  await Promise.race([end, timeUp]);
  return Buffer.concat(pieces).subarray(0, ANSWER_LIMIT).toString('utf8').trim();
}

function written(address: IpAddress, port: number): string {
  return familyOf(address) === 'inet6' ? `[${address}]:${port}` : `${address}:${port}`;
}
