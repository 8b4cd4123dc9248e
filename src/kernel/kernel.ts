import type { MeshError } from '../base/errors.ts';
import type { IpAddress, Protocol } from '../model/address.ts';
import type { KernelObject, ObjectKind, Op } from '../model/kernel-state.ts';

/** The part of the kernel a look or an event is about; a missing field means all of it. */
export interface Scope {
  netns?: readonly string[];
  kinds?: readonly ObjectKind[];
}

/** Whether a scope is about objects of a kind, wherever they are. */
export function coversKind({ kinds }: Scope, kind: ObjectKind): boolean {
  return kinds?.includes(kind) ?? true;
}

/** Whether an object is in what a scope is about. */
export function scopeIncludes(scope: Scope, { netns, kind }: KernelObject): boolean {
  return (scope.netns?.includes(netns) ?? true) && coversKind(scope, kind);
}

/** Who changed something, as the kernel tells it; the process may have ended meanwhile, and its name with it. */
export interface Actor {
  pid: number;
  name?: string;
}

export interface ApplyReport {
  done: Op[];
  failed: { op: Op; error: MeshError }[];
  /** sendmsg calls, netlink messages in them, and runs of iptables-restore that this apply took. */
  sends: number;
  messages: number;
  firewallRuns: number;
}

/** Since the driver was opened. Sends, messages and bytes are those of applies; looks count as observes. */
export interface KernelCounters {
  sends: number;
  messages: number;
  bytes: number;
  firewallRuns: number;
  operations: number;
  failed: number;
  observes: number;
}

/** Where every driver's counting starts. */
export function zeroCounters(): KernelCounters {
  return { sends: 0, messages: 0, bytes: 0, firewallRuns: 0, operations: 0, failed: 0, observes: 0 };
}

/** A socket that waits for clients in some netns. */
export interface Listener {
  protocol: Protocol;
  port: number;
  address: IpAddress;
  /** Names the socket, as in /proc/PID/fd; 0 or undefined when no process holds it. */
  inode?: number;
}

/** The process that holds a socket, with the name it gave itself (/proc/PID/comm). */
export interface SocketOwner {
  pid: number;
  /** /proc/PID/comm, which the process chooses itself. */
  process: string;
  /** Effective user; undefined when unknown. */
  uid?: number | undefined;
  /** Path of its program (/proc/PID/exe), if nobody but root can change or replace that file. */
  executable?: string | undefined;
}

/**
 * The kernel as a port with three verbs. Drivers: linux (linux.ts) and a model for tests (model-kernel.ts).
 * All three only ever see objects that are ours by name (model/names.ts).
 */
export interface Kernel {
  /** What is there now. Retries dumps the kernel calls inconsistent (NLM_F_DUMP_INTR). */
  observe(scope?: Scope): Promise<Map<string, KernelObject>>;
  /** Takes the steps in their order, batched per netns and family; goes on after a failed one and reports it. */
  apply(ops: readonly Op[]): Promise<ApplyReport>;
  /**
   * Calls back with what may have changed under us (also after lost events); never for what apply itself did and knows
   * of, where that can be told. `by` is who did it, as far as the kernel tells. Returns the way to stop.
   */
  watch(onChange: (scope: Scope, by: readonly Actor[]) => void): () => void;
  /** Sockets bound to a port in a netns. */
  listeners(netns: string): Promise<Listener[]>;
  /** Who holds these sockets, by inode; those whose process cannot be seen are left out. Costs a walk through /proc. */
  socketOwners(inodes: ReadonlySet<number>): Promise<Map<number, SocketOwner>>;
  /** Open (established) connections per real server of the given fwmarks: key `address:port` (IPv6 in brackets). */
  connections(netns: string, fwmarks: readonly number[]): Promise<Map<string, number>>;
  /** A path that setns(2) takes for this netns. */
  netnsPath(netns: string): string;
  counters(): KernelCounters;
  close(): void;
}
