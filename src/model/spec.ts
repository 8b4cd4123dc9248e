import type { Cidr, Protocol } from './address.ts';
import type { RequestedPrivileges } from './capabilities.ts';

/** What a person declared, in canonical form: every default filled in, every port range expanded. */
export interface ServiceSpec extends RequestedPrivileges {
  name: string;
  labels: Record<string, string>;
  runtime: 'process';
  command: string[];
  /** Working directory of the command; `/` when not declared. */
  workingDir: string;
  /** `name`, `uid`, `name:group` or `uid:gid`; undefined means the user the agent runs tasks as. */
  user?: string;
  environment: Record<string, string>;
  mode: 'replicated' | 'global';
  /** Desired tasks of a replicated service; ignored for global ones. */
  replicas: number;
  constraints: Constraint[];
  restart: RestartPolicy;
  /** From the first SIGTERM to SIGKILL, and the longest a draining task waits for its connections; milliseconds. */
  stopGracePeriod: number;
  ports: PortSpec[];
  /** How a new generation replaces the old one; undefined means DEFAULT_UPDATE. */
  update?: UpdateConfig;
  /** A task with one accepts connections only while it is healthy; undefined means as soon as it runs. */
  health?: HealthCheck;
  /** Bounds of the log of each task; undefined means DEFAULT_LOG. */
  log?: LogLimits;
  /** Share of connections each task gets from schedulers with weights; undefined means 1 for all. */
  weight?: WeightSpec;
  /** Grows with every `service update --force`; a manifest never sets it. */
  forced?: number;
}

export interface UpdateConfig {
  /** Slots replaced at a time; 0 means all. */
  parallelism: number;
  /** Milliseconds between one batch and the next. */
  delay: number;
  order: 'start-first' | 'stop-first';
}

/** One at a time, new before old; a service with a fixed host port must stop first, for two tasks cannot share it. */
export const DEFAULT_UPDATE: UpdateConfig = { parallelism: 1, delay: 0, order: 'start-first' };

/** A task has at most `maxFiles` log files of at most `maxSize` bytes each; the oldest is removed for a new one. */
export interface LogLimits {
  maxSize: number;
  maxFiles: number;
}

export const DEFAULT_LOG: LogLimits = { maxSize: 10_000_000, maxFiles: 3 };

/** Docker's healthcheck; times in milliseconds. */
export interface HealthCheck {
  probe: HealthProbe;
  interval: number;
  timeout: number;
  /** Failures in a row that make a task unhealthy. */
  retries: number;
  /** Failures in this time after the start do not count, as long as none has succeeded. */
  startPeriod: number;
  /** Between probes during the start period. */
  startInterval: number;
}

/** Run or made inside the task's netns. */
export type HealthProbe =
  | { kind: 'command'; command: string[] }
  /** Given to `/bin/sh -c`. */
  | { kind: 'shell'; command: string }
  /** Healthy when a connection to 127.0.0.1 is accepted. */
  | { kind: 'tcp'; port: number }
  /** Healthy when GET answers 200-399. */
  | { kind: 'http'; port: number; path: string };

/** The weight of a task: the number its node's label holds, or the default. 1..65535. */
export interface WeightSpec {
  /** Name of a node label without `node.labels.`. */
  label?: string;
  default: number;
}

export interface PortSpec {
  protocol: Protocol;
  /** Port inside the task. */
  target: number;
  /** Port on every node; undefined asks the manager for one. */
  published?: number;
  mode: 'ingress' | 'host';
  /** The target is bound on demand: a task is ready without it. */
  ready?: false;
  /** Undefined means rr. */
  scheduler?: Scheduler;
  schedulerFlags?: SchedulerFlag[];
  /** Used on nodes whose kernel lacks the scheduler, which the service's status reports; undefined means rr. */
  fallback?: Scheduler;
  persistence?: Persistence;
  /** Milliseconds an idle connection lives at least: a kernel has one timeout per protocol, and the longest request is used. */
  idleTimeout?: number;
  /** Undefined means cluster. */
  policy?: TrafficPolicy;
  /** The port is published only on nodes that match all of these; undefined means on every node. */
  nodes?: Constraint[];
  /** The port answers only on local addresses within one of these; undefined means on all. */
  addresses?: Cidr[];
  /** Clients whose address is in none of these are refused; undefined accepts every client. */
  allowFrom?: Cidr[];
}

/** What net/netfilter/ipvs has, in the names of `ipvsadm -s`. */
export const SCHEDULERS = ['rr', 'wrr', 'lc', 'wlc', 'sh', 'mh', 'sed', 'nq'] as const;
export type Scheduler = (typeof SCHEDULERS)[number];
export const SCHEDULER_FLAGS = ['sh-fallback', 'sh-port', 'mh-fallback', 'mh-port'] as const;
export type SchedulerFlag = (typeof SCHEDULER_FLAGS)[number];

/** A client stays with its task: all clients within one prefix as one, until nothing came for `timeout` milliseconds. */
export interface Persistence {
  timeout: number;
  /** Prefix length that makes two clients one: 1..32 and 1..128. */
  prefix: { inet: number; inet6: number };
}

/**
 * `cluster`: every task, wherever it runs. `prefer-local`: tasks of the node itself while it has any, else every task.
 * `local`: tasks of the node itself only.
 */
export const TRAFFIC_POLICIES = ['cluster', 'prefer-local', 'local'] as const;
export type TrafficPolicy = (typeof TRAFFIC_POLICIES)[number];

/** `node.hostname == node1`, `node.labels.zone != a`; keys as in Swarm, compared without case. */
export interface Constraint {
  key: string;
  operator: '==' | '!=';
  value: string;
}

export interface RestartPolicy {
  condition: 'any' | 'on-failure' | 'none';
  /** Milliseconds before a restart; undefined means meshd's own backoff (immediately, then growing). */
  delay?: number;
  /** 0 means without limit. */
  maxAttempts: number;
  /** After this uptime, ms, the count of attempts starts again; 0 means 30 s (src/decide/restart.ts). */
  window: number;
}

/** The identity of a published port inside the cluster: two services never share one. */
export function portKey(port: { protocol: Protocol; published: number }): string {
  return `${port.published}/${port.protocol}`;
}

/** The same of a declared port; undefined while it has no published number. */
export function publishedKey({ protocol, published }: PortSpec): string | undefined {
  return published === undefined ? undefined : portKey({ protocol, published });
}
