// A client in one host's network namespace, controlled by JSON lines on standard input: starting a program for every
// request is far too slow under emulation, and would hide short failures.
import { createSocket } from 'node:dgram';
import { Agent, request } from 'node:http';
import { createConnection } from 'node:net';
import { createInterface } from 'node:readline';
import type { LoadStats, ProbeRequest, ProbeResponse } from './probe-protocol.ts';

interface Load {
  stop(): Promise<LoadStats>;
}

const loads = new Map<string, Load>();

/** Error of a request on an idle connection that the server has just closed. */
const CONNECTION_CLOSED_CODES = new Set(['ECONNRESET', 'EPIPE']);
const CLOSED_BEFORE = 'the idle connection was closed';

/** ms before TCP probes an idle connection: with Node's second, hundreds of connections are more load than the requests. */
const KEEPALIVE_IDLE = 60_000;

/** One HTTP request on its own connection; resolves with the body, rejects with the reason. */
function httpOnce(
  url: string,
  options: { timeout: number; localPort?: number | undefined; agent?: Agent; localAddress?: string | undefined },
): Promise<string> {
  return new Promise((resolve, reject) => {
    const outgoing = request(url, {
      agent: options.agent ?? false,
      ...(options.localPort === undefined ? {} : { localPort: options.localPort }),
      ...(options.localAddress === undefined ? {} : { localAddress: options.localAddress }),
    });
    const timer = setTimeout(
      () => outgoing.destroy(new Error(`no response within ${options.timeout} ms`)),
      options.timeout,
    );
    outgoing.once('close', () => clearTimeout(timer));
    outgoing.once('error', (error: NodeJS.ErrnoException) => {
      const reason = error.code ?? error.message;
      reject(new Error(outgoing.reusedSocket && CONNECTION_CLOSED_CODES.has(reason) ? CLOSED_BEFORE : reason));
    });
    outgoing.once('response', (response) => {
      let body = '';
      response.on('data', (part) => {
        body += part;
      });
      response.once('end', () => resolve(body.trim()));
      response.once('error', reject);
    });
    outgoing.end();
  });
}

/** One datagram and its reply, or a rejection after `timeout` ms. */
function udpOnce(host: string, port: number, timeout: number): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
    const timer = setTimeout(() => finish(() => reject(new Error(`no response within ${timeout} ms`))), timeout);
    const finish = (then: () => void) => {
      clearTimeout(timer);
      socket.close();
      then();
    };
    socket.once('message', (message) => finish(() => resolve(message.toString().trim())));
    socket.once('error', (error) => finish(() => reject(error)));
    // Connected, so that an ICMP error is reported instead of a timeout.
    socket.connect(port, host, () => socket.send('who'));
  });
}

/** Runs `parallel` request loops over the urls in turn until stopped; counts every failure. */
function startLoad(request: Extract<ProbeRequest, { op: 'load' }>): Load {
  let running = true;
  const figures: LoadStats = { answered: 0, failed: 0, reconnected: 0, errors: {}, by: {}, slowest: 0 };
  const loops = Array.from({ length: request.parallel }, async (_, index) => {
    const agent = request.keepAlive
      ? new Agent({ keepAlive: true, keepAliveMsecs: KEEPALIVE_IDLE, maxSockets: 1 })
      : undefined;
    // Independent clients are not synchronised.
    if (request.pause > 0)
      await new Promise((resume) => setTimeout(resume, (request.pause * index) / request.parallel));
    for (let turn = index; running; turn += 1) {
      const url = request.urls[turn % request.urls.length]!;
      const started = performance.now();
      try {
        const options = { timeout: request.timeout, ...(agent ? { agent } : {}) };
        const body = await httpOnce(url, options).catch((error: Error) => {
          // Clients with keep-alive retry on a new connection (RFC 9112, 9.3.1), which must succeed.
          if (error.message !== CLOSED_BEFORE) throw error;
          figures.reconnected += 1;
          return httpOnce(url, options);
        });
        const who = body.split(' ')[0] ?? '';
        figures.answered += 1;
        figures.by[who] = (figures.by[who] ?? 0) + 1;
        figures.slowest = Math.max(figures.slowest, performance.now() - started);
      } catch (error) {
        const reason = error instanceof Error ? error.message : String(error);
        figures.failed += 1;
        figures.errors[reason] = (figures.errors[reason] ?? 0) + 1;
      }
      if (request.pause > 0) await new Promise((resume) => setTimeout(resume, request.pause));
    }
    agent?.destroy();
  });
  return {
    async stop() {
      running = false;
      await Promise.all(loops);
      return figures;
    },
  };
}

/** Keeps one TCP connection open and sends a request over it on demand. */
const heldConnections = new Map<string, { request(): Promise<string>; close(): void }>();

function holdConnection(request: Extract<ProbeRequest, { op: 'hold' }>): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ host: request.host, port: request.port });
    let waiting: { resolve(text: string): void; reject(error: Error): void } | undefined;
    socket.setEncoding('utf8');
    socket.once('connect', () => resolve());
    socket.on('data', (text) => {
      waiting?.resolve(String(text));
      waiting = undefined;
    });
    const closed = (error: Error) => {
      reject(error);
      waiting?.reject(error);
      waiting = undefined;
      heldConnections.set(request.name, { request: () => Promise.reject(error), close() {} });
    };
    socket.on('error', closed);
    socket.on('close', () => closed(new Error('connection closed')));
    heldConnections.set(request.name, {
      request: () =>
        new Promise((resolveAsk, rejectAsk) => {
          const timer = setTimeout(() => closed(new Error('no response on the open connection within 10 s')), 10_000);
          const done =
            <T>(then: (value: T) => void) =>
            (value: T) => {
              clearTimeout(timer);
              then(value);
            };
          waiting = { resolve: done(resolveAsk), reject: done(rejectAsk) };
          socket.write('GET / HTTP/1.1\r\nHost: task\r\n\r\n');
        }),
      close: () => socket.destroy(),
    });
  });
}

async function handleRequest(request: ProbeRequest): Promise<unknown> {
  switch (request.op) {
    case 'http':
      return httpOnce(request.url, {
        timeout: request.timeout,
        localPort: request.localPort,
        localAddress: request.localAddress,
      });
    case 'udp':
      return udpOnce(request.host, request.port, request.timeout);
    case 'load':
      loads.set(request.name, startLoad(request));
      return null;
    case 'load-stop': {
      const load = loads.get(request.name);
      loads.delete(request.name);
      return load?.stop();
    }
    case 'hold':
      return holdConnection(request).then(() => null);
    case 'request':
      return heldConnections.get(request.name)?.request();
    case 'release':
      heldConnections.get(request.name)?.close();
      heldConnections.delete(request.name);
      return null;
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const order = JSON.parse(line) as ProbeRequest & { id: number };
  handleRequest(order).then(
    (value) => sendResponse({ id: order.id, ok: true, value }),
    (error: Error) => sendResponse({ id: order.id, ok: false, error: error.message }),
  );
}
process.exit(0);

function sendResponse(reply: ProbeResponse): void {
  process.stdout.write(`${JSON.stringify(reply)}\n`);
}
