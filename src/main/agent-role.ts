import { existsSync, readFileSync, readlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAgent } from '../agent/agent.ts';
import { openAgentDisk } from '../agent/agent-disk.ts';
import type { Agent, AgentOptions } from '../agent/agent-options.ts';
import { ETHERNET_MTU, measureUnderlayMtu, underlayLink } from '../agent/node/underlay-mtu.ts';
import { detectCapabilities, type FastPathMode } from '../agent/node-capabilities.ts';
import { openHistory } from '../agent/session/history.ts';
import type { Clock } from '../base/clock.ts';
import { MeshError, messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import { openLinuxKernel } from '../kernel/driver/linux-kernel.ts';
import { probeFastPath } from '../kernel/fast-path/fast-path-probe.ts';
import { runPreflight } from '../kernel/host/preflight.ts';
import { describePreflightFinding } from '../kernel/host/preflight-findings.ts';
import { openSocket, processStartTime, spawnProcess, taskShimPath, watchProcess } from '../kernel/host/process.ts';
import { probeSchedulers } from '../kernel/ipvs/schedulers.ts';
import type { Kernel } from '../kernel/kernel.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { SCHEDULERS } from '../model/spec.ts';
import { connectDispatch } from '../rpc/dispatch-client.ts';
import { createProcessRuntime } from '../runtime/process.ts';
import type { Runtime } from '../runtime/runtime.ts';
import { tuneHeap } from './heap-size.ts';
import { VERSION } from './meshd-options.ts';

export interface AgentRole {
  create(
    about: Pick<AgentOptions, 'name' | 'role' | 'labels' | 'version' | 'kernelRelease' | 'managers' | 'healthListen'>,
  ): Agent;
  close(): void;
}

/** The agent's connections to this machine: its kernel, after preflight checks, and its runtime. Throws MeshError `unsupported` when a check fails. */
export async function openAgentRole(options: {
  log: Log;
  clock: Clock;
  stateDir: string;
  underlay: string;
  fastPath: FastPathMode;
}): Promise<AgentRole> {
  const { log, clock, stateDir, underlay } = options;
  await ensurePreflight(stateDir, log);
  const disk = openAgentDisk(stateDir, clock, log);
  let desiredObjects = (): ReadonlyMap<string, KernelObject> => new Map();
  const kernel = await openLinuxKernel({ log, desired: () => desiredObjects() });
  const schedulers = await detectSchedulers(log);
  const fastPath = await detectFastPath(options.fastPath, log);
  const peers = disk.assignment()?.peers.map((peer) => peer.underlay) ?? [];
  const underlayMtu = (await measureUnderlayMtu(kernel.hostNetwork, underlay, peers)) ?? ETHERNET_MTU;
  const link = await underlayLink(kernel.hostNetwork, underlay);
  const runtime = openRuntime(stateDir, clock, log);
  return {
    create(about) {
      const agent = createAgent({
        ...about,
        kernel,
        runtime,
        disk,
        history: openHistory(stateDir, clock, log),
        clock,
        log,
        underlay,
        random: Math.random,
        capabilities: detectCapabilities({ underlayLink: link, underlayMtu, schedulers, fastPath }, log),
        stateDir,
        connect: connectDispatch,
        onAssignment: tuneHeap,
      });
      desiredObjects = () => agent.want();
      return agent;
    },
    close() {
      runtime.close();
      kernel.close();
    },
  };
}

/**
 * Reports all findings at once, one a line, each with its remedy. A machine that passed is checked again only after a
 * boot or with another version of meshd, so that a restart after a crash is fast.
 */
async function ensurePreflight(stateDir: string, log: Log): Promise<void> {
  const markerPath = join(stateDir, 'fit');
  const fingerprint = `${VERSION} ${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()} ${readlinkSync('/proc/self/ns/user')}\n`;
  if (existsSync(markerPath) && readFileSync(markerPath, 'utf8') === fingerprint) return;
  const findings = await runPreflight();
  if (findings.length === 0) {
    try {
      writeFileSync(markerPath, fingerprint, { mode: 0o600 });
    } catch (thrown) {
      log.warn(`cannot write ${markerPath}: ${messageOf(thrown)}`);
    }
    return;
  }
  const lines = findings.map((finding) => {
    const { problem, remedy } = describePreflightFinding(finding);
    return `  ${problem}. Try: ${remedy}`;
  });
  throw new MeshError('unsupported', `preflight checks failed; no changes were made:\n${lines.join('\n')}`);
}

/** A port whose scheduler is missing uses its fallback; if the probe fails, all schedulers are assumed to be present. */
async function detectSchedulers(log: Log): Promise<readonly string[]> {
  try {
    const found = await probeSchedulers(SCHEDULERS);
    const missing = SCHEDULERS.filter((name) => !found.includes(name));
    if (missing.length > 0) log.warn(`the kernel lacks the schedulers ${missing.join(', ')}: ports use their fallback`);
    return found;
  } catch (thrown) {
    log.error(`${messageOf(thrown)}; assuming that the kernel has all schedulers`);
    return SCHEDULERS;
  }
}

/** The standard path does everything that the fast path does, so a kernel without support for it is no failure. */
async function detectFastPath(requested: FastPathMode, log: Log): Promise<FastPathMode> {
  if (requested === 'off') return requested;
  const { possible: isSupported, reason } = await probeFastPath();
  if (isSupported) return requested;
  log.warn(`--fast-path ${requested} is not supported by this kernel (${reason}); using the standard path`);
  return 'off';
}

export function openRuntime(stateDir: string, clock: Clock, log: Log): Runtime {
  return createProcessRuntime({
    directory: join(stateDir, 'tasks'),
    system: { taskShimPath, watchProcess, processStartTime, openSocket, spawnProcess },
    clock,
    log,
  });
}

export function openKernel(log: Log): Promise<Kernel> {
  return openLinuxKernel({ log });
}
