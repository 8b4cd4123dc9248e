import { closeSync } from 'node:fs';
import { type IncomingMessage, request } from 'node:http';
import { Socket } from 'node:net';
import { messageOf } from '../base/errors.ts';
import { familyOf, type IpAddress } from '../model/address.ts';
import { formatHostPort } from '../model/host-port.ts';
import type { HealthProbe } from '../model/spec.ts';
import type { ProbeResult } from './runtime.ts';
import type { ProcessId } from './task-dir.ts';

export interface NetworkProbeContext {
  /** Shim of the task. */
  shim: ProcessId;
  /** A TCP socket in the netns of a process, not yet connected; `family` as in AF_INET (2), AF_INET6 (10). */
  openSocket(options: { netns: { pid: number }; family: number }): number;
  processStartTime(pid: number): number | undefined;
}

/** Bytes of a response that are read. */
const RESPONSE_LIMIT = 4_096;
const AF = { inet: 2, inet6: 10 } as const;

/** Healthy if a connection is accepted; it is closed at once. */
export function probeByTcp(
  context: NetworkProbeContext,
  addresses: readonly IpAddress[],
  port: number,
  timeout: number,
  signal: AbortSignal,
): Promise<ProbeResult> {
  return withDeadline(timeout, signal, async (scope) => {
    const { address } = await connectToTask(context, addresses, port, scope);
    return { ok: true, output: `connected to ${formatHostPort(address, port)}` };
  });
}

/** Healthy if GET returns 200-399; redirects are not followed. */
export function probeByHttp(
  context: NetworkProbeContext,
  addresses: readonly IpAddress[],
  { port, path }: Extract<HealthProbe, { kind: 'http' }>,
  timeout: number,
  signal: AbortSignal,
): Promise<ProbeResult> {
  return withDeadline(timeout, signal, async (scope) => {
    const { socket } = await connectToTask(context, addresses, port, scope);
    const headers = { host: port === 80 ? 'localhost' : `localhost:${port}`, 'user-agent': 'meshd-health' };
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const sent = request(
        { createConnection: () => socket, path, headers, maxHeaderSize: 4 * RESPONSE_LIMIT },
        resolve,
      );
      sent.once('error', reject);
      sent.end();
    });
    // The body may be incomplete: the status is known.
    response.on('error', () => {});
    const { statusCode = 0, statusMessage = '' } = response;
    const status = `HTTP ${statusCode} ${statusMessage}`.trim();
    if (statusCode >= 200 && statusCode < 400) return { ok: true, output: status };
    const body = await readBodyPrefix(response, scope);
    return { ok: false, output: body === '' ? status : `${status}: ${body}` };
  });
}

/** Registers an opened resource, so that it is closed in every case. */
interface ProbeScope {
  addSocket(addSocket: Socket): void;
  /** Resolves when the timeout expires. */
  deadline: Promise<void>;
}

async function withDeadline(
  timeout: number,
  signal: AbortSignal,
  probe: (scope: ProbeScope) => Promise<ProbeResult>,
): Promise<ProbeResult> {
  const sockets: Socket[] = [];
  let expire = () => {};
  const deadline = new Promise<void>((resolve) => {
    expire = resolve;
  });
  const timer = setTimeout(expire, timeout);
  signal.addEventListener('abort', expire);
  if (signal.aborted) expire();
  const failed = (output: string): ProbeResult => ({ ok: false, output });
  try {
    return await Promise.race([
      probe({ addSocket: (socket) => void sockets.push(socket), deadline }).catch((thrown) =>
        failed(messageOf(thrown)),
      ),
      // A result that is already known takes precedence over the timeout.
      deadline
        .then(() => new Promise<void>((resolve) => setImmediate(resolve)))
        .then(() => failed(`no answer within ${timeout / 1000} s`)),
    ]);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', expire);
    for (const socket of sockets) socket.destroy();
  }
}

/** Tries 127.0.0.1 first; a task that listens only on its own address refuses there, so that address is tried next. */
async function connectToTask(
  context: NetworkProbeContext,
  taskAddresses: readonly IpAddress[],
  port: number,
  scope: ProbeScope,
): Promise<{ socket: Socket; address: IpAddress }> {
  const loopback = taskAddresses.some((address) => familyOf(address) === 'inet6')
    ? ['127.0.0.1', '::1']
    : ['127.0.0.1'];
  let firstError: unknown;
  for (const address of [...loopback, ...taskAddresses]) {
    try {
      return { socket: await openConnection(context, address, port, scope), address };
    } catch (thrown) {
      // EAFNOSUPPORT, EADDRNOTAVAIL: a host without that family.
      const { code } = thrown as NodeJS.ErrnoException;
      if (code !== 'ECONNREFUSED' && code !== 'EAFNOSUPPORT' && code !== 'EADDRNOTAVAIL') throw thrown;
      firstError ??= thrown;
    }
  }
  throw firstError;
}

function openConnection(
  context: NetworkProbeContext,
  address: IpAddress,
  port: number,
  scope: ProbeScope,
): Promise<Socket> {
  const { shim } = context;
  const fd = context.openSocket({ netns: { pid: shim.pid }, family: AF[familyOf(address)] });
  // The socket pins the netns of the process with this number now; only after that is the identity check reliable.
  if (context.processStartTime(shim.pid) !== shim.startTime) {
    closeSync(fd);
    return Promise.reject(new Error('the task has ended'));
  }
  const socket = new Socket({ fd, readable: true, writable: true });
  scope.addSocket(socket);
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.connect({ host: address, port }, () => {
      socket.off('error', reject);
      socket.on('error', () => {});
      resolve(socket);
    });
  });
}

/** The beginning of a response, as far as received before the timeout. */
async function readBodyPrefix(response: IncomingMessage, { deadline: timeUp }: ProbeScope): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  const end = new Promise<void>((resolve) => {
    response.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      length += chunk.length;
      if (length >= RESPONSE_LIMIT) resolve();
    });
    response.once('close', resolve);
  });
  await Promise.race([end, timeUp]);
  return Buffer.concat(chunks).subarray(0, RESPONSE_LIMIT).toString('utf8').trim();
}
