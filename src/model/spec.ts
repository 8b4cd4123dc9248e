import type { Protocol } from './address.ts';

/** What a person declared, in canonical form: every default filled in, every port range expanded. */
export interface ServiceSpec {
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
  /** Wanted tasks of a replicated service; ignored for global ones. */
  replicas: number;
  constraints: Constraint[];
  restart: RestartPolicy;
  /** From the first SIGTERM to SIGKILL, and the longest a leaving task waits for its connections; milliseconds. */
  stopGracePeriod: number;
  ports: PortSpec[];
}

export interface PortSpec {
  protocol: Protocol;
  /** Port inside the task. */
  target: number;
  /** Port on every node; undefined asks the manager for one. */
  published?: number;
  mode: 'ingress' | 'host';
}

/** `node.hostname == node1`, `node.labels.zone != a`; keys as in Swarm, compared without case. */
export interface Constraint {
  key: string;
  operator: '==' | '!=';
  value: string;
}

export interface RestartPolicy {
  condition: 'any' | 'on-failure' | 'none';
  /** Milliseconds before a restart; undefined means meshd's own back-off (at once, then growing). */
  delay?: number;
  /** 0 means without limit. */
  maxAttempts: number;
  /** A task that lived this long, ms, starts the count of attempts anew; 0 means 30 s (src/decide/restart.ts). */
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
