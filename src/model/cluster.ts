import type { Cidr, Family, IpAddress, Protocol } from './address.ts';
import type { PortSpec, ServiceSpec } from './spec.ts';

/** What every stored object has. `version` grows with each write and guards compare-and-swap. */
export interface Stored {
  id: string;
  version: number;
  /** Milliseconds since the epoch. */
  createdAt: number;
  updatedAt: number;
}

export interface Service extends Stored {
  name: string;
  spec: ServiceSpec;
  /** Grows when a change of the spec needs new tasks (command, environment …), not when only ports or replicas change. */
  taskGeneration: number;
  /** Draining ports: no longer declared, they accept no new connections and remain while old ones are open; never UDP. */
  leaving?: DrainingPort[];
  /** Ports whose real servers are not their targets (src/decide/entrances.ts); absent while there are none. */
  entrances?: Entrance[];
  /** Removed by a user: without a name and new connections it remains until its last task is removed. */
  removed?: true;
}

export interface DrainingPort {
  /** As it was declared. */
  port: PortSpec;
  /** Revision of the assignments from which on it accepts no new connections. */
  revision: number;
  /** Wall clock, ms: when it is removed even with connections open. */
  deadline: number;
}

/** Where a published port leads in the tasks of its service. */
export interface Entrance {
  /** Mode, number and target: `ingress 8081/tcp 80`. */
  port: string;
  /** The port of the real servers, which each task's netns redirects. */
  target: number;
}

export interface Node extends Stored {
  name: string;
  /**
   * 1..NODE_NUMBER_LIMIT (identifiers.ts) and at most the blocks of the ingress subnet, unique, never reused while the node
   * exists: travels as VXLAN GBP mark with every packet.
   */
  number: number;
  role: 'manager' | 'worker';
  labels: Record<string, string>;
  /** The labels its agent was last started with; changes in them are applied to `labels`. */
  declaredLabels?: Record<string, string>;
  availability: 'active' | 'pause' | 'drain';
  /** Where other nodes send VXLAN to. */
  underlay: IpAddress;
  state: 'ready' | 'down';
  /** Milliseconds since the epoch of the last state change. */
  stateSince: number;
  /** Codes of reported conditions that have a ConditionEffect, sorted; absent while there are none. */
  impairments?: string[];
  /** As the agent reported. */
  agentVersion: string;
  kernelRelease: string;
}

export interface Network extends Stored {
  name: string;
  /** VXLAN network identifier, 24 bit. */
  vni: number;
  /** One per family in use; every node owns a block of each. */
  subnets: NetworkSubnet[];
}

export interface NetworkSubnet {
  family: Family;
  cidr: Cidr;
  /** Prefix length of one node's block. */
  blockPrefix: number;
}

/**
 * Task life: new → pending (no node fits) → assigned → starting → running → (complete | failed | shutdown).
 * States only move forward; a replacement is a new task in the same slot.
 */
export type TaskState =
  | 'new'
  | 'pending'
  | 'assigned'
  | 'starting'
  | 'running'
  | 'complete'
  | 'shutdown'
  | 'failed'
  | 'orphaned';

/**
 * Desired state of a task. `drain`: its real servers get weight 0 everywhere, existing connections continue;
 * `shutdown`: every live node acknowledged the drain, the process may be stopped; `missing`: its node is down and it is
 * replaced elsewhere, but kept if the node returns before the replacement is up.
 */
type DesiredState = 'running' | 'drain' | 'shutdown' | 'missing';

export interface Task extends Stored {
  serviceId: string;
  serviceName: string;
  /** 1..replicas; for global services the node's number. */
  slot: number;
  nodeId?: string;
  /** Which generation of its service it runs (generation.ts); ports are not part of one, they belong to the data path. */
  generation: number;
  /** It accepts connections only while it is healthy. */
  hasHealthCheck?: true;
  /** The service's when the task was made, ms. */
  stopGracePeriod: number;
  /** One address per network and family, from the node's block. */
  addresses: { networkId: string; address: IpAddress }[];
  desired: DesiredState;
  status: TaskStatus;
  /** Revision of the assignments from which on the task has weight 0; set while draining. */
  drainRevision?: number;
  /** Revision with which it last became an endpoint; orders the endpoints of a port. */
  joinedRevision?: number;
  /** Wall clock, ms, of the same moment: the delay of an update counts from there. */
  joinedAt?: number;
  /** Fixed host mode ports (`8080/tcp`) it holds on its node, until it has ended: no two tasks of a node hold one. */
  hostPorts?: string[];
  /** Created by an update to replace a task that accepted connections. */
  takesOver?: true;
  /** Why it is being ended although its slot is desired, and since when (wall clock, ms); becomes its final status. */
  failure?: { error: string; since: number };
  /** Wall clock, ms: when the drain ends even with connections open. */
  drainDeadline?: number;
  /** Restarts of this slot so far within the restart window. */
  restarts: number;
  /** Wall clock, ms: not to be started before. */
  notBefore?: number;
}

export interface TaskStatus {
  state: TaskState;
  /** For people, for example why the task is pending. */
  message: string;
  /** The failure, empty when there is none. */
  error: string;
  pid?: number;
  exitCode?: number;
  /** Only of a task with a healthcheck. */
  health?: 'starting' | 'healthy' | 'unhealthy';
  /** Host mode ports whose number the node picked. */
  ports?: { protocol: Protocol; target: number; published: number }[];
  /** While it runs: families in which it does not get the connections of a target port. */
  missing?: MissingFamily[];
  /** Milliseconds since the epoch. */
  since: number;
  /** Why it is in its state, for programs: a TaskReason, or one of a newer agent. */
  reason?: string;
}

/** A family that no socket of a task accepts on a target port, although one accepts the other family. */
export interface MissingFamily {
  protocol: Protocol;
  target: number;
  family: Family;
}

/** Why a task is in its state. The texts are in `message` and `error`. */
export type TaskReason =
  | 'WaitingForNetwork' // its paths are not in the kernel yet
  | 'Starting'
  | 'WaitingForPorts' // its process runs and has not bound its ports yet
  | 'PortsNotBound' // the same, for longer than a start should take
  | 'PortUnreachable' // it runs, and accepts no clients on some target ports, as with sockets of 127.0.0.1
  | 'FamilyMissing' // it runs, and accepts only one family on some target ports
  | 'Unhealthy'
  | 'Exited'
  | 'Daemonized' // the same, with code 0 and processes left behind: it went into the background
  | 'Killed'
  | 'StartFailed'
  | 'Stopped'
  | 'StoppedBeforeStart'
  | 'NetworkLost'; // its network namespace was deleted

/** A program that listens on a port of a node, outside the mesh (sock_diag(7)). */
export interface Listener {
  protocol: Protocol;
  port: number;
  /** `0.0.0.0` and `::` are every address. */
  address: IpAddress;
  pid?: number;
  /** /proc/PID/comm; undefined when the owner is unknown. */
  process?: string;
  /** The node keeps the port from the mesh for it: sshd, or meshd itself (src/agent/ports/protected-listener.ts). */
  protected?: true;
}

/**
 * Why a published port differs on one node from its declaration. `taken`: a program of the node listens there and is
 * shadowed. `withheld`: the node keeps the port for itself, because sshd listens there. `fallback`: the
 * kernel lacks the declared scheduler. `family`: tasks of the node accept only one family.
 */
export interface PortCondition {
  protocol: Protocol;
  published: number;
  kind: 'taken' | 'withheld' | 'fallback' | 'family';
  /** For people, without the node's name and the port. */
  message: string;
}
