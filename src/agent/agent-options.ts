import type { Clock } from '../base/clock.ts';
import type { Log } from '../base/log.ts';
import type { Kernel, KernelCounters } from '../kernel/kernel.ts';
import type { Condition } from '../model/condition.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import type { NodeCapabilities } from '../plan/context.ts';
import type { DispatchConnection } from '../rpc/dispatch-client.ts';
import type { Runtime } from '../runtime/runtime.ts';
import type { AgentDisk } from './agent-disk.ts';
import type { History } from './session/history.ts';
import type { PlanResult } from './session/messages.ts';
import type { NodeQueries } from './session/node-queries.ts';

export interface AgentOptions {
  kernel: Kernel;
  runtime: Runtime;
  disk: AgentDisk;
  history: History;
  clock: Clock;
  log: Log;
  random(): number;
  capabilities: NodeCapabilities;
  name: string;
  /** Address to which other nodes send VXLAN. */
  underlay: string;
  role: 'manager' | 'worker';
  labels: Record<string, string>;
  version: string;
  kernelRelease: string;
  /** Managers: `host:port`, or the path of a unix socket. */
  managers: readonly string[];
  connect(address: string): DispatchConnection;
  /** Called with the number of ports before a whole assignment is planned. */
  onAssignment?(ports: number): void;
  /** `ADDRESS:PORT` of the health endpoint for external load balancers; undefined for none. */
  healthListen?: string | undefined;
  /** Directory for persistent state, which the doctor checks; undefined to skip that. */
  stateDir?: string;
  /** Questions the node answers beside its own. */
  queries?: NodeQueries;
}

interface AgentInfo {
  nodeId: string;
  /** Newest assignment the kernel holds; 0 before the first. */
  revision: number;
  /** Address of the manager it is connected to. */
  manager: string | undefined;
  kernelObjects: number;
  counters: KernelCounters & { repairs: number };
  conditions: Condition[];
}

export interface Agent {
  start(): Promise<void>;
  /** Ends the session and all watching; kernel objects and tasks stay. */
  stop(): Promise<void>;
  info(): AgentInfo;
  /** Operations from the observed to the desired kernel state, as commands of iproute2 and ipvsadm. */
  diff(): Promise<PlanResult>;
  /** The desired kernel state; it determines what the driver observes. */
  want(): ReadonlyMap<string, KernelObject>;
}
