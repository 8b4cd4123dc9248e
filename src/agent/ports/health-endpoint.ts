import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import type { Log } from '../../base/log.ts';
import type { Conditions } from '../conditions.ts';
import { handleHealthRequest, type NodeHealth } from './health-request.ts';

export interface HealthEndpointOptions {
  /** `ADDRESS:PORT`, IPv6 in brackets; `[::]` is every address of both families. */
  listen: string;
  health(): NodeHealth;
  conditions: Conditions;
  clock: Clock;
  log: Log;
}

export interface HealthEndpoint {
  /** Where it listens; undefined while it cannot. */
  address(): AddressInfo | undefined;
  stop(): void;
}

/** Whoever reaches it may ask, so it holds little at a time, and nothing for long. */
const MAX_CONNECTIONS = 256;
const REQUEST_TIMEOUT = 5_000;
/** Between two tries to listen, ms. */
const RETRY_DELAY = 10_000;

/**
 * A read-only HTTP server for balancers in front of the nodes: which ports this node answers (port-answer.ts). That it
 * cannot listen is a condition of the node and no reason to stop.
 */
export function startHealthEndpoint({
  listen,
  health: getHealth,
  conditions,
  clock,
  log,
}: HealthEndpointOptions): HealthEndpoint {
  const colon = listen.lastIndexOf(':');
  const port = Number(listen.slice(colon + 1));
  const host = listen.slice(0, colon).replace(/^\[|\]$/g, '');
  let server: Server | undefined;
  let cancel: (() => void) | undefined;
  let stopped = false;

  function startListening(address: string): void {
    const created = createServer({
      maxHeaderSize: 4_096,
      headersTimeout: REQUEST_TIMEOUT,
      requestTimeout: REQUEST_TIMEOUT,
      keepAliveTimeout: REQUEST_TIMEOUT,
      connectionsCheckingInterval: REQUEST_TIMEOUT,
    });
    created.maxConnections = MAX_CONNECTIONS;
    created.timeout = 2 * REQUEST_TIMEOUT;
    created.on('request', (request, response) => {
      request.resume();
      const send = (status: number, body: object, headers = {}) => {
        response.writeHead(status, { 'content-type': 'application/json', 'cache-control': 'no-store', ...headers });
        response.end(request.method === 'HEAD' ? undefined : `${JSON.stringify(body)}\n`);
      };
      if (request.method !== 'GET' && request.method !== 'HEAD') {
        send(405, { error: 'only GET and HEAD' }, { allow: 'GET, HEAD', connection: 'close' });
        return;
      }
      const { status, body } = handleHealthRequest(request.url!.split('?', 1)[0]!, getHealth());
      send(status, body);
    });
    created.once('listening', () => {
      conditions.clear('health-listen');
      log.info({ address: listen }, 'the health endpoint for balancers listens');
    });
    created.on('error', (thrown: NodeJS.ErrnoException) => {
      if (stopped || server !== created || created.listening) return;
      // A host without IPv6.
      if (thrown.code === 'EAFNOSUPPORT' && address === '::') {
        startListening('0.0.0.0');
        return;
      }
      conditions.raise(
        'health-listen',
        `the health endpoint cannot listen on ${listen}: ${describeListenError(thrown, port)}`,
      );
      cancel = clock.after(RETRY_DELAY, () => startListening(host));
    });
    server = created;
    created.listen({ host: address, port });
  }
  startListening(host);

  return {
    address: () => (server?.listening ? (server.address() as AddressInfo) : undefined),
    stop() {
      stopped = true;
      cancel?.();
      server?.close();
      server?.closeAllConnections();
    },
  };
}

function describeListenError({ code, message }: NodeJS.ErrnoException, port: number): string {
  const remedy = 'give another --health-listen ADDRESS:PORT, or off';
  if (code === 'EADDRINUSE')
    return `another program has that port (\`ss -ltnp sport = :${port}\`): stop it, or ${remedy}`;
  if (code === 'EADDRNOTAVAIL') return `this node does not have that address: ${remedy}`;
  return `${message}; ${remedy}`;
}
