import type { Cidr, Family, IpAddress, MacAddress, Protocol } from './address.ts';
import type { RequestedPrivileges } from './capabilities.ts';
import type { HealthCheck, LogLimits, Persistence, SchedulerFlag, TrafficPolicy } from './spec.ts';

/** The complete desired state of one node, sent as a snapshot and then updated by deltas. */
export interface Assignment {
  /** Store revision of this assignment; grows. */
  revision: number;
  self: { nodeId: string; name: string; number: number; underlay: IpAddress };
  networks: AssignedNetwork[];
  peers: Peer[];
  ports: AssignedPort[];
  tasks: AssignedTask[];
}

export interface AssignedNetwork {
  id: string;
  /** `ingress` is the one that carries published ports. */
  name: string;
  vni: number;
  /** The whole network, and this node's own block of it, in each family. */
  subnets: { family: Family; cidr: Cidr; block: Cidr }[];
}

/** Another node as seen from this one. */
export interface Peer {
  nodeId: string;
  number: number;
  underlay: IpAddress;
  mac: MacAddress;
  /** Its block in each network and family. */
  blocks: { networkId: string; family: Family; block: Cidr }[];
}

export interface AssignedPort {
  protocol: Protocol;
  published: number;
  /** In host mode only the node of the task has the port, and its endpoint is that task. */
  mode: 'ingress' | 'host';
  serviceId: string;
  serviceName: string;
  scheduler: string;
  schedulerFlags?: SchedulerFlag[];
  /** Scheduler of a node whose kernel lacks the other; undefined means rr. */
  fallback?: string;
  persistence?: Persistence;
  /** As in PortSpec, like the four below it. */
  idleTimeout?: number;
  policy?: TrafficPolicy;
  addresses?: Cidr[];
  allowFrom?: Cidr[];
  /**
   * In the order in which they joined, the newest last: what a scheduler with a hash table picks depends on the order
   * of the real servers, and must be the same on every node.
   */
  endpoints: Endpoint[];
}

/** A task as a real server of one published port. */
export interface Endpoint {
  taskId: string;
  nodeId: string;
  address: IpAddress;
  port: number;
  /** 0 keeps existing connections and accepts no new ones. */
  weight: number;
}

export interface AssignedProcess extends RequestedPrivileges {
  command: string[];
  workingDir: string;
  user?: string;
  environment: Record<string, string>;
  /** Undefined means DEFAULT_LOG. */
  log?: LogLimits;
}

export interface TargetPort {
  protocol: Protocol;
  port: number;
  /** The task counts as running without it, because it is bound on demand. */
  ready?: false;
}

export interface AssignedTask {
  id: string;
  serviceId: string;
  serviceName: string;
  slot: number;
  desired: 'running' | 'shutdown';
  addresses: { networkId: string; address: IpAddress }[];
  process: AssignedProcess;
  /** Each target port once. */
  targets: TargetPort[];
  /** Host mode ports without a number: the node picks one for each and reports it in the task's status. */
  pick?: { protocol: Protocol; port: number }[];
  /** Ports of the task at which connections arrive that its program accepts at another one. */
  redirects?: Redirect[];
  health?: HealthCheck;
  /** Milliseconds from SIGTERM to SIGKILL. */
  stopGracePeriod: number;
}

/** A port of a task's netns, and the port to which it is redirected. */
export interface Redirect {
  protocol: Protocol;
  from: number;
  to: number;
}

/** What changed between two revisions; lists hold whole new values, `removed` their keys. */
export interface AssignmentDelta {
  /** The delta applies to exactly this revision. */
  base: number;
  revision: number;
  peers: Peer[];
  ports: AssignedPort[];
  tasks: AssignedTask[];
  removedPeers: string[]; // nodeId
  removedPorts: string[]; // portKey
  removedTasks: string[]; // task id
}
