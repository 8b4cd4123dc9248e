import type { MeshError } from '../base/errors.ts';
import type { Cidr, IpAddress, Protocol } from '../model/address.ts';
import type { Op } from '../model/kernel-state.ts';
import type { KernelObject, ObjectKind } from '../model/kinds/registry.ts';
import type { HostRouting } from '../model/policy-rule.ts';
import type { RouteQuestion, RouteResult } from '../model/route-lookup.ts';

/** The part of the kernel that an observation or an event is about; a missing field means all of it. */
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

/** The process that changed something, as the kernel reports it; the name is missing when it has ended already. */
export interface Actor {
  pid: number;
  name?: string;
}

export interface ApplyReport {
  done: Op[];
  failed: { op: Op; error: MeshError }[];
  /** sendmsg calls, netlink messages in them, and runs of iptables-restore in this apply. */
  sends: number;
  messages: number;
  firewallRuns: number;
}

/** Since the driver was opened. Sends, messages and bytes are those of applies. */
export interface KernelCounters {
  sends: number;
  messages: number;
  bytes: number;
  firewallRuns: number;
  operations: number;
  failed: number;
  observes: number;
}

/** All zero. */
export function zeroCounters(): KernelCounters {
  return { sends: 0, messages: 0, bytes: 0, firewallRuns: 0, operations: 0, failed: 0, observes: 0 };
}

/** A listening socket in some netns. */
export interface Listener {
  protocol: Protocol;
  port: number;
  address: IpAddress;
  /** IPV6_V6ONLY of a socket of IPv6: it accepts no IPv4. */
  v6only?: true;
  /** Identifies the socket, as in /proc/PID/fd; 0 or undefined when no process owns it. */
  inode?: number;
}

/** The process that owns a socket, with its name from /proc/PID/comm. */
export interface SocketOwner {
  pid: number;
  /** /proc/PID/comm, which the process chooses itself. */
  process: string;
  /** Effective user; undefined when unknown. */
  uid?: number | undefined;
  /** Path of its program (/proc/PID/exe), if only root can change or replace that file. */
  executable?: string | undefined;
}

/** An address of the host netns. */
export interface HostAddress {
  link: string;
  /** Of the link, bytes. */
  mtu: number;
  /** Whether the link exchanges Ethernet frames with other hosts; `lo`, `dummy` and tunnels do not. */
  ethernet: boolean;
  address: IpAddress;
  prefix: number;
}

/** A route of another program in the host netns, of any table but `local`. */
export interface HostRoute {
  link: string;
  destination: Cidr;
  /** Undefined for a network that the link itself leads to. */
  via: IpAddress | undefined;
}

/** How packets leave the host for one destination. */
export interface HostPath {
  link: string;
  /** Of the route, else of its link; bytes. */
  mtu: number;
  /** False when the only link of the route cannot send: no cable, or the other end is down. */
  carrier: boolean;
}

/** `addresses`: an address, a link or a rule changed; `unknown`: events were lost. */
export type HostNetworkChange = { of: 'addresses' } | { of: 'route'; destination: Cidr } | { of: 'unknown' };

/** Addresses and routes of the host netns that are not meshd's. */
export interface HostNetwork {
  /** Also of links without carrier; not of links that are down, which the kernel does not use, nor those that another host turned out to have (IPv6). */
  addresses(): Promise<HostAddress[]>;
  /** Lists all routes: slow on a host with a full routing table. */
  routes(): Promise<HostRoute[]>;
  /** By destination; those without a route are missing. */
  paths(source: IpAddress, destinations: readonly IpAddress[]): Promise<Map<IpAddress, HostPath>>;
  /** Returns a function that stops it. */
  watch(onChange: (change: HostNetworkChange) => void): () => void;
}

/**
 * The kernel as a port with three verbs. Implementations: driver/linux-kernel.ts and, for tests, model/model-kernel.ts.
 * All three see only objects that are ours by name.
 */
export interface Kernel {
  /** What exists now. Repeats dumps that the kernel calls inconsistent (NLM_F_DUMP_INTR). */
  observe(scope?: Scope): Promise<Map<string, KernelObject>>;
  /** Executes the operations in order, batched per netns and family; continues after a failed one and reports it. */
  apply(ops: readonly Op[]): Promise<ApplyReport>;
  /**
   * Calls back with what other programs may have changed, also after lost events; not for the changes of apply, as far as
   * they can be recognized. `by` lists the processes that did it, as far as the kernel reports it. Returns a function that stops it.
   */
  watch(onChange: (scope: Scope, by: readonly Actor[]) => void): () => void;
  /**
   * Ends UDP and SCTP flows to desired published ports that began while the host did not translate them. `apply` and the
   * events of `watch` do it by themselves; this is for what happened before the driver was opened.
   */
  endUntranslatedFlows(): Promise<void>;
  /** The host's own routing, as far as rules of other programs make it matter. */
  hostRouting(): Promise<HostRouting>;
  /** Where the host would send such a packet, by its own rules and routes. */
  lookUpRoute(question: RouteQuestion): Promise<RouteResult>;
  /** Sockets bound to a port in a netns. */
  listeners(netns: string): Promise<Listener[]>;
  /** Owners of these sockets by inode, without those whose process is hidden. Reads all of /proc. */
  socketOwners(inodes: ReadonlySet<number>): Promise<Map<number, SocketOwner>>;
  /** Open (established) connections per real server of the given fwmarks: key `address:port` (IPv6 in brackets). */
  connections(netns: string, fwmarks: readonly number[]): Promise<Map<string, number>>;
  /** A path of this netns for setns(2). */
  netnsPath(netns: string): string;
  /** The network of the host itself, which meshd only reads. */
  readonly hostNetwork: HostNetwork;
  counters(): KernelCounters;
  close(): void;
}
