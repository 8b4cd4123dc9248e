// Shared by the scenario files: probes (one per host, started once), the `web` service, and queries of the mesh.
import assert from 'node:assert/strict';
import { resolve } from 'node:path';
import { applyManifest, listRows, meshctlOn, type ProbeClient, startProbe, stdoutOf } from './harness.ts';

const probes = new Map<string, ProbeClient>();
// Every program in the test host runs in the checkout.
const program = resolve('dist/probe.mjs');

/** The probe in a host; started on first use, runs until the end. */
export async function probeOn(host: string): Promise<ProbeClient> {
  const existing = probes.get(host);
  if (existing) return existing;
  const started = startProbe(host, program);
  probes.set(host, started);
  return started;
}

export const clientProbe = (): Promise<ProbeClient> => probeOn('client');

export function closeProbes(): void {
  for (const started of probes.values()) started.close();
  probes.clear();
}

/** IPv6 addresses of the hosts, as test/host/mesh exports them. */
export function inet6Of(host: string): string {
  const address = process.env[`${host.toUpperCase()}_IP6`];
  assert.ok(address, `${host.toUpperCase()}_IP6 is not set: run this through test/host/mesh`);
  return address;
}

export function urlOf(address: string, port: number): string {
  return `http://${address.includes(':') ? `[${address}]` : address}:${port}/`;
}

/**
 * While agents restart: under emulation a heavier load keeps an agent from starting for longer than the 30 s after which
 * its node is down and its tasks are replaced.
 */
export const LIGHT_LOAD = { parallel: 2, pause: 1_500 };

/** Answers with its name and the client's address (test/host/whoami.c). */
export const WHOAMI = resolve('.cache/bin/whoami');

/** A manifest with one whoami service; by default its tasks run on any node except node1. */
export function whoamiManifest(options: {
  name: string;
  replicas: number;
  ports: string[];
  constraint?: string;
  restartDelay?: string;
}): string {
  return JSON.stringify({
    services: {
      [options.name]: {
        command: [WHOAMI],
        environment: { PORT: '80', UDP_PORT: '53' },
        ports: options.ports,
        stop_grace_period: '20s',
        deploy: {
          replicas: options.replicas,
          placement: { constraints: [options.constraint ?? 'node.hostname != node1'] },
          ...(options.restartDelay ? { restart_policy: { delay: options.restartDelay } } : {}),
        },
        'x-mesh': { runtime: 'process' },
      },
    },
  });
}

/** Applies `web` and waits until it has converged. */
export async function applyWeb(options: { replicas: number; ports?: string[] }): Promise<void> {
  const manifest = whoamiManifest({ name: 'web', ports: ['8080:80', '5353:53/udp'], ...options });
  const outcome = await applyManifest(manifest);
  assert.equal(outcome.status, 0, outcome.stderr || outcome.stdout);
}

export async function runningTasks(service: string): Promise<Record<string, unknown>[]> {
  const tasks = await listRows('service', 'ps', service);
  return tasks.filter((task) => task['state'] === 'running' && task['desired'] === 'running');
}

export interface Counters {
  sends: number;
  messages: number;
  firewallRuns: number;
  operations: number;
  repairs: number;
}

/** Counters of the kernel operations of a node's agent since its start. */
export async function readCounters(node: string): Promise<Counters> {
  const [status] = JSON.parse(await stdoutOf(meshctlOn(node, ['status', '--format', 'json'])));
  const counters = status?.counters;
  assert.ok(counters, `no counters in the status of ${node}`);
  return {
    sends: Number(counters.sends),
    messages: Number(counters.messages),
    firewallRuns: Number(counters.firewall_runs),
    operations: Number(counters.operations),
    repairs: Number(counters.repairs),
  };
}
