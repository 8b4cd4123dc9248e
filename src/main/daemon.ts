import { release } from 'node:os';
import { dirname } from 'node:path';
import { localHandlers } from '../agent/local-service.ts';
import { systemClock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { processStartTime } from '../kernel/process.ts';
import { sdNotify } from '../kernel/systemd.ts';
import { familyOf } from '../model/address.ts';
import { LocalService } from '../rpc/gen/mesh.ts';
import { type Implementation, implement } from '../rpc/implement.ts';
import { type RunningServer, startServer } from '../rpc/server.ts';
import { advertisedAddress } from './advertise.ts';
import type { AgentPart } from './agent-part.ts';
import { makeDirectory } from './make-directory.ts';
import type { ManagerPart } from './manager-part.ts';
import { type DaemonOptions, VERSION } from './meshd-options.ts';
import { lockStateDir } from './state-lock.ts';

/** Longest that an orderly end may take, ms; crash-only parts lose nothing by being cut off. */
const STOP_LIMIT = 900;

export interface Daemon {
  stop(): Promise<void>;
}

/**
 * Everything a meshd is made of, in the order it is started: nothing is touched before the machine was found fit, and
 * nobody is let in before there is something to talk to. Throws MeshError with what to do.
 */
export async function startDaemon(options: DaemonOptions, log: Log): Promise<Daemon> {
  const { roles, name, stateDir, socket } = options;
  const startedAt = Date.now();
  const stops: (() => Promise<unknown> | unknown)[] = [];
  const stop = async () => {
    notify('STOPPING=1');
    const all = (async () => {
      for (const end of stops.splice(0).reverse()) await end();
    })();
    await Promise.race([all, new Promise((resolve) => setTimeout(resolve, STOP_LIMIT).unref())]);
  };

  const underlay = await advertisedAddress(options.advertise, options.join, options.listen);
  const lock = lockStateDir(stateDir, processStartTime);
  stops.push(() => lock.release());
  try {
    prepareSocketDir(socket);
    let manager: ManagerPart | undefined;
    let agentPart: AgentPart | undefined;
    if (roles.includes('agent')) {
      const { openAgentPart } = await import('./agent-part.ts');
      agentPart = await openAgentPart({ log, clock: systemClock, stateDir, underlay, shortcut: options.shortcut });
      stops.push(() => agentPart?.close());
    }
    if (roles.includes('manager')) {
      const { openManagerPart } = await import('./manager-part.ts');
      manager = await openManagerPart(options, systemClock, log);
      stops.push(() => manager?.stop());
    }
    const agent = agentPart?.create({
      name,
      role: manager === undefined ? 'worker' : 'manager',
      labels: options.labels,
      healthListen: options.healthListen,
      version: VERSION,
      kernelRelease: release(),
      managers: manager === undefined ? options.join : [socket],
    });

    const local = implement(LocalService, localHandlers({ name, roles, version: VERSION, startedAt }, agent), log);
    const wished = options.listen ?? (familyOf(underlay) === 'inet6' ? '[::]:2377' : '0.0.0.0:2377');
    const servers = await listen({ ...options, listen: wished }, local, manager, log);
    // Together: a server waits for its streams, and the manager's sessions end with the manager.
    stops.push(() => Promise.all([manager?.stop(), ...servers.map((server) => server.stop())]));
    manager?.start();

    await agent?.start();
    if (agent !== undefined) stops.push(() => agent.stop());
    notify(`READY=1\nSTATUS=${roles.join(' and ')} of node ${name}`);
    log.info({ roles, underlay, stateDir, socket, version: VERSION }, 'meshd is ready');
    return { stop };
  } catch (thrown) {
    await stop();
    throw thrown;
  }
}

/** Control and Local on the unix socket only; agents come over TCP, this machine's own through the socket. */
async function listen(
  options: DaemonOptions & { listen: string },
  local: Implementation,
  manager: ManagerPart | undefined,
  log: Log,
): Promise<RunningServer[]> {
  const servers: RunningServer[] = [];
  try {
    const services = manager === undefined ? [local] : [local, manager.control, manager.dispatch];
    servers.push(await startServer({ path: options.socket, mode: 0o660 }, services));
    if (manager === undefined) return servers;
    const tcp = await startServer({ tcp: listenAddress(options, log) }, [manager.dispatch]);
    servers.push(tcp);
    log.info({ address: tcp.address }, 'manager waits for agents');
    return servers;
  } catch (thrown) {
    for (const server of servers) await server.stop();
    throw thrown;
  }
}

/** Without node identity whoever reaches the port is believed; so by default only this machine reaches it. */
function listenAddress({ listen: wished, insecureDev }: DaemonOptions & { listen: string }, log: Log): string {
  const port = wished.slice(wished.lastIndexOf(':') + 1);
  const host = wished.slice(0, -port.length - 1).replace(/^\[|\]$/g, '');
  const loopback = host === 'localhost' || host === '::1' || /^127\./.test(host);
  if (loopback) return wished;
  if (!insecureDev) {
    log.warn(`listening on 127.0.0.1:${port} only: agents of other machines are let in with --insecure-dev`);
    return `127.0.0.1:${port}`;
  }
  log.warn(
    `INSECURE: --insecure-dev lets anybody who reaches ${wished} join as a node, read every service's environment and take its traffic. Keep this port inside a network you trust.`,
  );
  return wished;
}

function prepareSocketDir(socket: string): void {
  const directory = dirname(socket);
  try {
    makeDirectory(directory, 0o755);
  } catch (thrown) {
    throw new MeshError('permission', `cannot make ${directory}: ${messageOf(thrown)}; give another --socket`, {
      cause: thrown,
    });
  }
}

/** The service manager is told when there is one; not reaching it is no reason to fail. */
function notify(state: string): void {
  try {
    sdNotify(state);
  } catch {
    // NOTIFY_SOCKET names something that is not there.
  }
}
