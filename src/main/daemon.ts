import type { Socket } from 'node:net';
import { release } from 'node:os';
import { dirname } from 'node:path';
import { localHandlers } from '../agent/local-service.ts';
import { systemClock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { localCaller } from '../identity/caller.ts';
import { readHostAddresses } from '../kernel/host/host-network.ts';
import { peerOf } from '../kernel/host/peer-credentials.ts';
import { processStartTime } from '../kernel/host/process.ts';
import { sdNotify } from '../kernel/host/systemd.ts';
import { familyOf } from '../model/address.ts';
import { localChecks } from '../rpc/check-messages.ts';
import { Local } from '../rpc/gen/mesh_pb.js';
import { type RunningServer, serveInsecureAgents, serveLocalAgent, servePeople } from '../rpc/server.ts';
import { type Implementation, implement } from '../rpc/service.ts';
import { resolveAdvertiseAddress } from './advertise-address.ts';
import type { AgentRole } from './agent-role.ts';
import { checkDirectory } from './check-directory.ts';
import { groupId } from './group-id.ts';
import { makeDirectory } from './make-directory.ts';
import type { ManagerRole } from './manager-role.ts';
import { type DaemonOptions, VERSION } from './meshd-options.ts';
import { lockStateDir } from './state-lock.ts';

/** Timeout of an orderly shutdown, ms; no part loses data when it is killed. */
const STOP_TIMEOUT = 900;

export interface Daemon {
  stop(): Promise<void>;
}

/**
 * Starts all parts of meshd in order: nothing on the machine is changed before the preflight checks, and the sockets are
 * opened only when their handlers are ready. Throws MeshError with what to do.
 */
export async function startDaemon(options: DaemonOptions & { name: string }, log: Log): Promise<Daemon> {
  const { roles, name, stateDir, socket, agentSocket } = options;
  const startedAt = Date.now();
  const shutdownSteps: (() => Promise<unknown> | unknown)[] = [];
  const stop = async () => {
    notifySystemd('STOPPING=1');
    const all = (async () => {
      for (const end of shutdownSteps.splice(0).reverse()) await end();
    })();
    await Promise.race([all, new Promise((resolve) => setTimeout(resolve, STOP_TIMEOUT).unref())]);
  };

  const underlay = await resolveAdvertiseAddress(options, readHostAddresses);
  const lock = lockStateDir(stateDir, processStartTime);
  shutdownSteps.push(() => lock.release());
  try {
    prepareSocketDir(socket);
    if (roles.includes('manager')) prepareSocketDir(agentSocket);
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
      managers: manager === undefined ? options.join : [agentSocket],
    });

    const daemon = { name, roles, version: VERSION, startedAt };
    const local = implement(Local, localChecks, localHandlers(daemon, agent), log);
    const listen = options.listen ?? (familyOf(underlay) === 'inet6' ? '[::]:2377' : '0.0.0.0:2377');
    const servers = await startServers({ ...options, listen }, local, manager, log);
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

/** Group whose members may use the socket for people, when it exists. */
const GROUP = 'meshd';

/**
 * One socket for people, one for the agent of this machine, which only root may use: agents receive the environment of
 * every task of their node. Agents of other machines need `--insecure-dev`; without it there is no TCP listener.
 */
async function startServers(
  options: DaemonOptions & { listen: string },
  local: Implementation,
  manager: ManagerRole | undefined,
  log: Log,
): Promise<RunningServer[]> {
  const servers: RunningServer[] = [];
  const group = groupId(GROUP);
  const policy = { uid: process.geteuid!(), group };
  const callers = {
    callerOf: (socket: Socket) => localCaller(peerOf(socket), policy),
    log,
    prepareDirectory: prepareSocketDir,
  };
  try {
    const services = manager === undefined ? [local] : [local, manager.control];
    servers.push(await servePeople({ path: options.socket, mode: 0o660, group }, services, callers));
    if (manager === undefined) return servers;
    const { serveSession } = manager;
    servers.push(await serveLocalAgent({ path: options.agentSocket, mode: 0o600 }, serveSession, callers));
    if (!options.insecureDev) {
      log.info('not listening on TCP: agents of other machines are accepted with --insecure-dev only');
      return servers;
    }
    log.warn(
      `INSECURE: --insecure-dev lets anyone who can reach ${options.listen} join as a node, read every service's environment and receive its traffic. Keep this port inside a network you trust.`,
    );
    const tcp = await serveInsecureAgents(options.listen, serveSession, log);
    servers.push(tcp);
    log.info({ address: tcp.address }, 'listening for agents');
    return servers;
  } catch (thrown) {
    for (const server of servers) await server.stop();
    throw thrown;
  }
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
  checkDirectory(directory, { sticky: true });
}

/** Notifies the service manager if there is one (sd_notify(3)); failures are ignored. */
function notifySystemd(state: string): void {
  try {
    sdNotify(state);
  } catch {
    // NOTIFY_SOCKET does not exist.
  }
}
