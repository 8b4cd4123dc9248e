import { release } from 'node:os';
import { dirname } from 'node:path';
import { localHandlers } from '../agent/local-service.ts';
import { systemClock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { processStartTime } from '../kernel/host/process.ts';
import { sdNotify } from '../kernel/host/systemd.ts';
import { familyOf } from '../model/address.ts';
import { LocalService } from '../rpc/gen/mesh.ts';
import { type Implementation, implement } from '../rpc/implement.ts';
import { type RunningServer, startServer } from '../rpc/server.ts';
import { resolveAdvertiseAddress } from './advertise-address.ts';
import type { AgentRole } from './agent-role.ts';
import { makeDirectory } from './make-directory.ts';
import type { ManagerRole } from './manager-role.ts';
import { type DaemonOptions, VERSION } from './meshd-options.ts';
import { lockStateDir } from './state-lock.ts';

/** Longest that an orderly end may take, ms; crash-only parts lose nothing by being cut off. */
const STOP_TIMEOUT = 900;

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
  const shutdownSteps: (() => Promise<unknown> | unknown)[] = [];
  const stop = async () => {
    notifySystemd('STOPPING=1');
    const all = (async () => {
      for (const end of shutdownSteps.splice(0).reverse()) await end();
    })();
    await Promise.race([all, new Promise((resolve) => setTimeout(resolve, STOP_TIMEOUT).unref())]);
  };

  const underlay = await resolveAdvertiseAddress(options.advertise, options.join, options.listen);
  const lock = lockStateDir(stateDir, processStartTime);
  shutdownSteps.push(() => lock.release());
  try {
    prepareSocketDir(socket);
    let manager: ManagerRole | undefined;
    let agentRole: AgentRole | undefined;
    if (roles.includes('agent')) {
      const { openAgentRole: openAgentPart } = await import('./agent-role.ts');
      agentRole = await openAgentPart({ log, clock: systemClock, stateDir, underlay, fastPath: options.fastPath });
      shutdownSteps.push(() => agentRole?.close());
    }
    if (roles.includes('manager')) {
      const { openManagerRole: openManagerPart } = await import('./manager-role.ts');
      manager = await openManagerPart(options, systemClock, log);
      shutdownSteps.push(() => manager?.stop());
    }
    const agent = agentRole?.create({
      name,
      role: manager === undefined ? 'worker' : 'manager',
      labels: options.labels,
      healthListen: options.healthListen,
      version: VERSION,
      kernelRelease: release(),
      managers: manager === undefined ? options.join : [socket],
    });

    const local = implement(LocalService, localHandlers({ name, roles, version: VERSION, startedAt }, agent), log);
    const listenEndpoint = options.listen ?? (familyOf(underlay) === 'inet6' ? '[::]:2377' : '0.0.0.0:2377');
    const servers = await listen({ ...options, listen: listenEndpoint }, local, manager, log);
    // Together: a server waits for its streams, and the manager's sessions end with the manager.
    shutdownSteps.push(() => Promise.all([manager?.stop(), ...servers.map((server) => server.stop())]));
    manager?.start();

    await agent?.start();
    if (agent !== undefined) shutdownSteps.push(() => agent.stop());
    notifySystemd(`READY=1\nSTATUS=${roles.join(' and ')} of node ${name}`);
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
  manager: ManagerRole | undefined,
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
function listenAddress({ listen: requested, insecureDev }: DaemonOptions & { listen: string }, log: Log): string {
  const port = requested.slice(requested.lastIndexOf(':') + 1);
  const host = requested.slice(0, -port.length - 1).replace(/^\[|\]$/g, '');
  const isLoopback = host === 'localhost' || host === '::1' || /^127\./.test(host);
  if (isLoopback) return requested;
  if (!insecureDev) {
    log.warn(`listening on 127.0.0.1:${port} only: agents of other machines are let in with --insecure-dev`);
    return `127.0.0.1:${port}`;
  }
  log.warn(
    `INSECURE: --insecure-dev lets anybody who reaches ${requested} join as a node, read every service's environment and take its traffic. Keep this port inside a network you trust.`,
  );
  return requested;
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
function notifySystemd(state: string): void {
  try {
    sdNotify(state);
  } catch {
    // NOTIFY_SOCKET names something that is not there.
  }
}
