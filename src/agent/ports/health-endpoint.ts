import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Clock } from '../../base/clock.ts';
import { MeshError } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { type Condition, condition } from '../../model/condition.ts';
import { parseHostPort } from '../../model/host-port.ts';
import type { Conditions } from '../conditions.ts';
import type { NodeHealth } from './health-request.ts';
import { createHealthServer } from './health-server.ts';

export interface HealthEndpointOptions {
  /** `ADDRESS:PORT`, IPv6 in brackets; `[::]` is every address of both families. */
  listen: string;
  health(): NodeHealth;
  conditions: Conditions;
  clock: Clock;
  log: Log;
}

export interface HealthEndpoint {
  start(): void;
  /** Where it listens; undefined while it cannot. */
  address(): AddressInfo | undefined;
  stop(): void;
}

/** Between two attempts to listen, ms. */
const RETRY_DELAY = 10_000;

/**
 * Serves health checks (health-server.ts) on an address. That it cannot listen is a condition of the node, and it
 * retries; the agent keeps running. Throws MeshError `invalid` for a malformed address.
 */
export function createHealthEndpoint(options: HealthEndpointOptions): HealthEndpoint {
  const { listen, conditions, clock, log } = options;
  const { host, port } = parseListenAddress(listen);
  let server: Server | undefined;
  let cancelRetry = () => {};
  let stopped = false;

  function startListening(address: string): void {
    const created = createHealthServer(options.health);
    created.once('listening', () => {
      conditions.clear('HealthEndpointPortInUse', 'HealthEndpointAddressMissing', 'HealthEndpointFailed');
      log.info(`health endpoint listening on ${listen}`);
    });
    created.on('error', (thrown: NodeJS.ErrnoException) => {
      if (stopped || server !== created || created.listening) return;
      // A host without IPv6.
      if (thrown.code === 'EAFNOSUPPORT' && address === '::') {
        startListening('0.0.0.0');
        return;
      }
      conditions.raise(listenCondition(thrown, listen));
      cancelRetry = clock.after(RETRY_DELAY, () => startListening(host));
    });
    server = created;
    created.listen({ host: address, port });
  }

  return {
    start: () => startListening(host),
    address: () => (server?.listening ? (server.address() as AddressInfo) : undefined),
    stop() {
      stopped = true;
      cancelRetry();
      server?.close();
      server?.closeAllConnections();
    },
  };
}

function parseListenAddress(listen: string): { host: string; port: number } {
  const parsed = parseHostPort(listen);
  if (parsed === undefined) throw new MeshError('invalid', `--health-listen ${listen} is not ADDRESS:PORT`);
  return parsed;
}

function listenCondition({ code, message }: NodeJS.ErrnoException, listen: string): Condition {
  if (code === 'EADDRINUSE') return condition('HealthEndpointPortInUse', { listen });
  if (code === 'EADDRNOTAVAIL') return condition('HealthEndpointAddressMissing', { listen });
  return condition('HealthEndpointFailed', { listen, error: message });
}
