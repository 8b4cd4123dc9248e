/**
 * Typed loader of the native addon, and the path of the task shim.
 * Nothing is loaded before the first call, so importing this costs nothing.
 *
 * Failed system calls throw an Error like those of node:fs: `code` ("EEXIST"),
 * `errno` (negative), `syscall`. Handles (sockets, watches) keep the event loop
 * alive only while ref()ed; they may be opened in worker threads as well.
 */
import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Socket } from 'node:net';
import { constants } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** A network namespace: the path of a pin, an open descriptor of one, or the one a process is in. */
export type NetnsRef = string | number | { readonly pid: number };

/** `dev` and `ino` of the namespace's inode: equal if and only if it is the same namespace. */
export interface NetnsIdentity {
  readonly dev: number;
  readonly ino: number;
}

export interface NetlinkOptions {
  /** Where the socket lives; the caller's own namespace when absent. */
  readonly netns?: NetnsRef | undefined;
  /** Short for `netns: { pid }`. */
  readonly pid?: number | undefined;
  /** NETLINK_ROUTE, NETLINK_GENERIC, ... (linux/netlink.h). */
  readonly protocol: number;
  /** Multicast groups to join, by number (RTNLGRP_*), not as a bit mask. */
  readonly groups?: readonly number[] | undefined;
  /** SO_RCVBUF to ask for, in bytes; 4 MiB when absent. The kernel doubles it. */
  readonly receiveBufferBytes?: number | undefined;
  /** NETLINK_GET_STRICT_CHK, so that dumps honour their filters; true when absent. */
  readonly strict?: boolean | undefined;
}

/**
 * What a netlink socket tells. `data` holds the datagrams of one wake-up in
 * order; each may contain several netlink messages and none is ever cut.
 * `overrun` (ENOBUFS): the kernel dropped messages, events or replies; it comes
 * once the queue has been read empty, so that what is read anew from then on is
 * complete. `error`: one receive failed; the socket goes on.
 */
export type NetlinkEvent =
  | { readonly type: 'data'; readonly messages: readonly Buffer[] }
  | { readonly type: 'overrun' }
  | { readonly type: 'error'; readonly errno: number; readonly code: string };

/**
 * An open netlink socket, extended ACK and capped ACK on. One that is not
 * ref()ed and that nobody holds any more is closed when collected.
 */
export interface NetlinkSocket {
  /** The kernel's number for this socket, nlmsg_pid of its replies. */
  readonly portId: number;
  /** SO_RCVBUF as the kernel has it. */
  readonly receiveBufferBytes: number;
  /**
   * One sendmsg() of any number of messages, each padded to 4 bytes. Returns
   * when the kernel has processed them; replies come as events. EMSGSIZE
   * above the send buffer (1 MiB asked for).
   */
  send(buffer: Uint8Array): void;
  /** Tells the events that wait in the queue now, before it returns, instead of from the event loop. */
  receive(): void;
  addMembership(group: number): void;
  dropMembership(group: number): void;
  /** NETLINK_LISTEN_ALL_NSID: events also of namespaces that have an id here. */
  setListenAllNsid(on: boolean): void;
  ref(): this;
  unref(): this;
  /** No event follows. Closing twice is fine. */
  close(): void;
}

export interface SocketOptions {
  readonly netns?: NetnsRef | undefined;
  /** AF_INET (2) when absent; AF_INET6 is 10. */
  readonly family?: number | undefined;
  /** SOCK_STREAM (1) when absent; SOCK_DGRAM is 2, SOCK_RAW 3. */
  readonly type?: number | undefined;
  readonly protocol?: number | undefined;
  /** True when absent. */
  readonly nonblock?: boolean | undefined;
}

/** The process at the other end of a unix socket, as it was when it called connect(2) or listen(2). */
export interface PeerCredentials {
  /** 0 when the process is not visible in our pid namespace. It may have ended since, and the number be reused. */
  readonly pid: number;
  /** Effective user and group. */
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups; undefined before Linux 4.13. */
  readonly groups?: readonly number[];
}

/** A process held by a pidfd; alive until it has told the end or is closed. */
export interface ProcessWatch {
  readonly pid: number;
  /** Sends a signal by number; ESRCH when the process has ended or the watch is closed. */
  signal(signal: number): void;
  ref(): this;
  unref(): this;
  close(): void;
}

/** A BPF map or program. Closed when collected, if not before; what the kernel still uses lives on. */
export interface BpfHandle {
  /** For netlink requests; throws EBADF when closed. */
  readonly fd: number;
  /** Closing twice is fine. */
  close(): void;
}

export interface BpfMapOptions {
  /** At most 15 letters, digits, dots and underscores. */
  readonly name: string;
  /** enum bpf_map_type (linux/bpf.h). */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

export interface BpfMapInfo extends BpfMapOptions {
  readonly id: number;
}

export interface BpfProgramInfo {
  readonly id: number;
  readonly name: string;
  /** 16 hex digits. */
  readonly tag: string;
  readonly mapIds: readonly number[];
}

/** Entries of a map, one behind the other. */
export interface BpfMapEntries {
  readonly count: number;
  readonly keys: Buffer;
  readonly values: Buffer;
}

/** What a program made of a packet. */
export interface BpfTestResult {
  /** TC_ACT_* (linux/pkt_cls.h). */
  readonly action: number;
  readonly mark: number;
  readonly packet: Buffer;
}

/** Standard streams by name, in the order of their numbers. */
const STREAMS = ['stdin', 'stdout', 'stderr'] as const;

export interface SpawnOptions {
  /** The whole environment; a program without a slash in its name is looked for along its PATH. */
  readonly env: Readonly<Record<string, string>>;
  /** In a session of its own, with no terminal and out of reach of our signals; false when absent. */
  readonly session?: boolean | undefined;
  /** Standard streams that are pipes to us; the others are /dev/null. */
  readonly pipes?: readonly (typeof STREAMS)[number][] | undefined;
  /** What standard input holds, whole before the program starts and out of sight of other users (memfd_create(2)). */
  readonly input?: Uint8Array | undefined;
}

/** How a child of ours has ended. */
export interface ProcessEnd {
  /** Undefined when a signal ended it. */
  readonly code: number | undefined;
  readonly signal: NodeJS.Signals | undefined;
}

export interface SpawnedProcess {
  readonly watch: ProcessWatch;
  readonly stdin?: Socket;
  readonly stdout?: Socket;
  readonly stderr?: Socket;
}

interface Addon {
  openNetlink(options: NetlinkOptions, onEvent: (event: NetlinkEvent) => void): NetlinkSocket;
  createNetns(path: string): void;
  pinNetns(source: NetnsRef, path: string): void;
  deleteNetns(path: string): void;
  openNetns(ref: NetnsRef): number;
  netnsIdentity(ref: NetnsRef): NetnsIdentity;
  inNetns<T>(ref: NetnsRef, fn: () => T): T;
  openSocket(options: SocketOptions): number;
  bindSocket(fd: number, address: string, port: number): void;
  setSocketOption(fd: number, level: number, name: number, value: number): void;
  watchProcess(pid: number, onExit: () => void): ProcessWatch;
  getSocketOption(fd: number, level: number, name: number, value: Uint8Array): void;
  peerCredentials(fd: number): PeerCredentials;
  sendUnixDatagram(path: string, payload: string): void;
  createBpfMap(options: BpfMapOptions): BpfHandle;
  loadBpfProgram(name: string, code: Uint8Array): BpfHandle;
  bpfProgramById(id: number): BpfHandle | undefined;
  bpfMapById(id: number): BpfHandle | undefined;
  bpfProgramInfo(program: BpfHandle): BpfProgramInfo;
  bpfMapInfo(map: BpfHandle): BpfMapInfo;
  lookUpBpfMap(map: BpfHandle, key: Uint8Array): Buffer | undefined;
  updateBpfMap(map: BpfHandle, key: Uint8Array, value: Uint8Array): void;
  deleteFromBpfMap(map: BpfHandle, key: Uint8Array): boolean;
  bpfMapEntries(map: BpfHandle): BpfMapEntries;
  testBpfProgram(program: BpfHandle, packet: Uint8Array, mark: number): BpfTestResult;
  spawnProcess(
    path: string,
    argv: readonly string[],
    env: readonly string[],
    directory: string,
    session: boolean,
    pipes: readonly boolean[],
    input: Uint8Array | undefined,
  ): [number, number, number, number];
  reapProcess(pid: number): number | undefined;
}

const here = dirname(fileURLToPath(import.meta.url));
let loaded: Addon | undefined;

/** Beside the bundle (or above its chunks), then the build directory of a checkout, then what the environment names. */
function findBuildOutput(name: string, override: string | undefined): string {
  const candidates = [
    join(here, name),
    join(here, '..', name),
    join(here, 'build/Release', name),
    join(here, '../native/build/Release', name),
    join(here, '../../native/build/Release', name),
    ...(override ? [override] : []),
  ];
  const found = candidates.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new Error(
    `${name} was not found in ${candidates.map((path) => dirname(path)).join(', ')}; build it with: node native/build.mjs`,
  );
}

function addon(): Addon {
  if (loaded === undefined) {
    loaded = createRequire(import.meta.url)(findBuildOutput('mesh.node', process.env['MESHD_NATIVE'])) as Addon;
  }
  return loaded;
}

/** Path of the task shim `mesh-task`; see native/task/mesh-task.c for its arguments and files. */
export function taskShimPath(): string {
  return findBuildOutput('mesh-task', process.env['MESHD_TASK_SHIM']);
}

/**
 * Opens a netlink socket. An exception of `onEvent` is an uncaughtException of
 * the process; the socket goes on. Throws a system error: EINVAL when `netns`
 * is no network namespace, EPERM without CAP_SYS_ADMIN for a foreign one.
 */
export function openNetlink(options: NetlinkOptions, onEvent: (event: NetlinkEvent) => void): NetlinkSocket {
  const { pid, ...rest } = options;
  return addon().openNetlink(pid === undefined ? rest : { ...rest, netns: { pid } }, onEvent);
}

/**
 * Makes a network namespace pinned at `path`, as `ip netns add` does: in
 * /run/netns `ip netns` lists it. EEXIST when `path` exists. Loopback is down.
 * The parent directory (one level is made) becomes a shared mount of its own.
 */
export function createNetns(path: string): void {
  addon().createNetns(path);
}

/** Pins an existing namespace at `path`. EEXIST when `path` exists. */
export function pinNetns(source: NetnsRef, path: string): void {
  addon().pinNetns(source, path);
}

/**
 * Removes a pin; the namespace goes when its last process and socket have.
 * ENOENT when there is none; EINVAL, and nothing done, when `path` is anything
 * else than a pin or the empty file of an interrupted one.
 */
export function deleteNetns(path: string): void {
  addon().deleteNetns(path);
}

/** A descriptor of the namespace; the caller closes it (fs.closeSync). */
export function openNetns(ref: NetnsRef): number {
  return addon().openNetns(ref);
}

/** Which namespace it is. ENOENT when the path or process is gone, EINVAL when it is none. */
export function netnsIdentity(ref: NetnsRef): NetnsIdentity {
  return addon().netnsIdentity(ref);
}

/**
 * Runs a synchronous function with this thread in the namespace; child
 * processes spawned in it stay there. Always returns to the namespace it came
 * from; ends the process if the kernel refuses that. What goes on after a
 * tick (promises, net.connect) is outside again, hence the refusal of a thenable.
 */
export function inNetns<T>(ref: NetnsRef, fn: () => T): T {
  const result = addon().inNetns(ref, fn);
  if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function') {
    throw new TypeError('inNetns runs synchronous functions only: its promise would continue outside the namespace');
  }
  return result;
}

/**
 * A socket in a namespace, close-on-exec. The caller hands the descriptor to
 * Node, which owns it then: net.Server.listen({fd}), new net.Socket({fd}),
 * dgram.Socket.bind({fd}).
 */
export function openSocket(options: SocketOptions): number {
  return addon().openSocket(options);
}

/** bind(2) to an IPv4 or IPv6 address (no zone) and port. */
export function bindSocket(fd: number, address: string, port: number): void {
  if (!Number.isInteger(port) || port < 0 || port > 65535) throw new RangeError(`${port} is not a port`);
  addon().bindSocket(fd, address, port);
}

/** setsockopt(2) with an integer value; level and name are the kernel's numbers. */
export function setSocketOption(fd: number, level: number, name: number, value: number): void {
  addon().setSocketOption(fd, level, name, value);
}

/** getsockopt(2) into a buffer of the size asked for; some options read their question from it. */
export function getSocketOption(fd: number, level: number, name: number, value: Uint8Array): void {
  addon().getSocketOption(fd, level, name, value);
}

/**
 * Who is at the other end of a connected unix stream socket (SO_PEERCRED and SO_PEERGROUPS, socket(7)). Throws a system
 * error: EBADF or ENOTSOCK for another kind of descriptor, EINVAL for a socket of another family or a listening one,
 * ENOTCONN when it is not connected.
 */
export function peerCredentials(fd: number): PeerCredentials {
  return addon().peerCredentials(fd);
}

/**
 * Calls `onExit` once when the process ends, whether or not it is our child.
 * With `startTime` (see processStartTime) it must be that very process.
 * ESRCH when it has gone already. A zombie counts as ended.
 */
export function watchProcess(pid: number, onExit: () => void, startTime?: number): ProcessWatch {
  const watch = addon().watchProcess(pid, onExit);
  // The pidfd holds whoever has the number now; only then is looking safe.
  if (startTime !== undefined && processStartTime(pid) !== startTime) {
    watch.close();
    throw Object.assign(new Error(`ESRCH: no such process, process ${pid} is not the one started at ${startTime}`), {
      code: 'ESRCH',
      errno: -constants.errno.ESRCH,
      syscall: 'pidfd_open',
    });
  }
  return watch;
}

/**
 * Starts a program in `/`, in the netns this thread is in, without copying our page tables (native/addon/spawn.cc):
 * child_process.spawn() takes longer the more memory we have, and nothing else runs here meanwhile. `onExit` comes
 * once; the pipes may still hold output then. Throws a system error when it cannot be started: ENOENT when there is no such program.
 */
export function spawnProcess(
  file: string,
  args: readonly string[],
  { env, session = false, pipes = [], input }: SpawnOptions,
  onExit: (end: ProcessEnd) => void,
): SpawnedProcess {
  const path = file.includes('/') ? file : (resolveInPath(file, env['PATH'] ?? '') ?? file);
  const variables = Object.entries(env).map(([name, value]) => `${name}=${value}`);
  const piped = STREAMS.map((name) => pipes.includes(name));
  const [pid, ...fds] = addon().spawnProcess(path, [file, ...args], variables, '/', session, piped, input);
  const streams = fds.flatMap((fd, place) =>
    fd < 0 ? [] : [[STREAMS[place]!, new Socket({ fd, readable: place > 0, writable: place === 0 })] as const],
  );
  const watch = addon().watchProcess(pid, () => onExit(toProcessEnd(addon().reapProcess(pid) ?? 0)));
  return { watch, ...Object.fromEntries(streams) };
}

function resolveInPath(file: string, path: string): string | undefined {
  return path
    .split(':')
    .map((directory) => join(directory, file))
    .find((candidate) => existsSync(candidate));
}

/** wait(2): the low seven bits are the signal, the second byte is the exit code. */
function toProcessEnd(status: number): ProcessEnd {
  const number = status & 0x7f;
  if (number === 0) return { code: (status >> 8) & 0xff, signal: undefined };
  const [name] = Object.entries(constants.signals).find(([, value]) => value === number) ?? [];
  return { code: undefined, signal: (name ?? `SIG${number}`) as NodeJS.Signals };
}

/** Signals the watched process, never another that got its number. ESRCH when it has ended. */
export function signalProcess(watch: ProcessWatch, signal: NodeJS.Signals): void {
  watch.signal(constants.signals[signal]);
}

/** Start time in clock ticks since boot, field 22 of /proc/PID/stat; undefined when there is no such process. */
export function processStartTime(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in brackets may hold spaces and brackets itself.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return undefined;
  }
}

/**
 * sd_notify(3): tells the service manager, e.g. "READY=1". False when nobody
 * asked for it (NOTIFY_SOCKET unset); throws a system error when it cannot be told.
 */
export function sdNotify(state: string): boolean {
  const socket = process.env['NOTIFY_SOCKET'];
  if (!socket) return false;
  addon().sendUnixDatagram(socket, state);
  return true;
}

/** EPERM without CAP_BPF or CAP_SYS_ADMIN, and before Linux 5.11 also when RLIMIT_MEMLOCK is too low. */
export function createBpfMap(options: BpfMapOptions): BpfHandle {
  return addon().createBpfMap(options);
}

/**
 * Loads a tc program (BPF_PROG_TYPE_SCHED_CLS, licence GPL). When the kernel refuses it, the end of what the verifier
 * said is in the error's `log`.
 */
export function loadBpfProgram(name: string, code: Uint8Array): BpfHandle {
  return addon().loadBpfProgram(name, code);
}

/** Undefined when no program has this number. */
export function bpfProgramById(id: number): BpfHandle | undefined {
  return addon().bpfProgramById(id);
}

/** Undefined when no map has this number. */
export function bpfMapById(id: number): BpfHandle | undefined {
  return addon().bpfMapById(id);
}

export function bpfProgramInfo(program: BpfHandle): BpfProgramInfo {
  return addon().bpfProgramInfo(program);
}

export function bpfMapInfo(map: BpfHandle): BpfMapInfo {
  return addon().bpfMapInfo(map);
}

/** The value, or undefined when there is no such entry. */
export function lookUpBpfMap(map: BpfHandle, key: Uint8Array): Buffer | undefined {
  return addon().lookUpBpfMap(map, key);
}

/** Makes or overwrites an entry; E2BIG when the map is full. */
export function updateBpfMap(map: BpfHandle, key: Uint8Array, value: Uint8Array): void {
  addon().updateBpfMap(map, key, value);
}

/** Whether the entry was there. EINVAL for arrays, whose entries cannot go. */
export function deleteFromBpfMap(map: BpfHandle, key: Uint8Array): boolean {
  return addon().deleteFromBpfMap(map, key);
}

/** All entries; those that come or go meanwhile may be missing. */
export function bpfMapEntries(map: BpfHandle): BpfMapEntries {
  return addon().bpfMapEntries(map);
}

/** Runs a program on one Ethernet frame (BPF_PROG_TEST_RUN), which goes nowhere. */
export function testBpfProgram(program: BpfHandle, packet: Uint8Array, mark = 0): BpfTestResult {
  return addon().testBpfProgram(program, packet, mark);
}
