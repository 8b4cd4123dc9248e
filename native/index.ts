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

/** A network namespace: the path of a pin, an open descriptor, or the namespace of a process. */
export type NetnsRef = string | number | { readonly pid: number };

/** `dev` and `ino` of the namespace's inode: equal if and only if it is the same namespace. */
export interface NetnsIdentity {
  readonly dev: number;
  readonly ino: number;
}

export interface NetlinkOptions {
  /** Namespace of the socket; the caller's own if absent. */
  readonly netns?: NetnsRef | undefined;
  /** Shorthand for `netns: { pid }`. */
  readonly pid?: number | undefined;
  /** NETLINK_ROUTE, NETLINK_GENERIC, ... (linux/netlink.h). */
  readonly protocol: number;
  /** Multicast groups to join, by number (RTNLGRP_*), not as a bit mask. */
  readonly groups?: readonly number[] | undefined;
  /** SO_RCVBUF to request, in bytes; 4 MiB if absent. The kernel doubles it. */
  readonly receiveBufferBytes?: number | undefined;
  /** NETLINK_GET_STRICT_CHK, so that dumps honour their filters; true if absent. */
  readonly strict?: boolean | undefined;
}

/**
 * Events of a netlink socket. `data` holds the datagrams of one wake-up in
 * order; each may contain several netlink messages and none is ever truncated.
 * `overrun` (ENOBUFS): the kernel dropped messages, events or replies; it is
 * reported once the queue has been emptied, so that a resynchronisation from
 * then on is complete. `error`: one receive failed; the socket stays usable.
 */
export type NetlinkEvent =
  | { readonly type: 'data'; readonly messages: readonly Buffer[] }
  | { readonly type: 'overrun' }
  | { readonly type: 'error'; readonly errno: number; readonly code: string };

/**
 * An open netlink socket with extended ACK and capped ACK enabled. If not
 * ref()ed, it is closed when garbage-collected.
 */
export interface NetlinkSocket {
  /** Port id of this socket, nlmsg_pid of its replies. */
  readonly portId: number;
  /** SO_RCVBUF as reported by the kernel. */
  readonly receiveBufferBytes: number;
  /**
   * One sendmsg() of any number of messages, each padded to 4 bytes. Returns
   * when the kernel has processed them; replies arrive as events. EMSGSIZE
   * above the send buffer (1 MiB requested).
   */
  send(buffer: Uint8Array): void;
  /** Delivers the queued events synchronously, instead of from the event loop. */
  receive(): void;
  addMembership(group: number): void;
  dropMembership(group: number): void;
  /** NETLINK_LISTEN_ALL_NSID: receive events also of namespaces that have an id here. */
  setListenAllNsid(on: boolean): void;
  ref(): this;
  unref(): this;
  /** No event follows. Closing twice is allowed. */
  close(): void;
}

export interface SocketOptions {
  readonly netns?: NetnsRef | undefined;
  /** AF_INET (2) if absent; AF_INET6 is 10. */
  readonly family?: number | undefined;
  /** SOCK_STREAM (1) if absent; SOCK_DGRAM is 2, SOCK_RAW 3. */
  readonly type?: number | undefined;
  readonly protocol?: number | undefined;
  /** True if absent. */
  readonly nonblock?: boolean | undefined;
}

/** The peer process of a unix socket, as it was when it called connect(2) or listen(2). */
export interface PeerCredentials {
  /** 0 if the process is not visible in our pid namespace. It may have ended since, and the number been reused. */
  readonly pid: number;
  /** Effective user and group. */
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups; undefined before Linux 4.13. */
  readonly groups?: readonly number[];
}

/** A process held by a pidfd; active until it has reported the end or is closed. */
export interface ProcessWatch {
  readonly pid: number;
  /** Sends a signal by number; ESRCH if the process has ended or the watch is closed. */
  signal(signal: number): void;
  ref(): this;
  unref(): this;
  close(): void;
}

/** A BPF map or program. Closed at the latest when garbage-collected; the kernel keeps objects that are in use. */
export interface BpfHandle {
  /** For netlink requests; throws EBADF if closed. */
  readonly fd: number;
  /** Closing twice is allowed. */
  close(): void;
}

/** A map as an object file defines it. */
export interface BpfMapShape {
  /** At most 15 letters, digits, dots and underscores. */
  readonly name: string;
  /** enum bpf_map_type (linux/bpf.h). */
  readonly type: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly maxEntries: number;
}

export interface BpfMapInfo extends BpfMapShape {
  readonly id: number;
}

export interface BpfProgramInfo {
  readonly id: number;
  readonly name: string;
  /** 16 hex digits. */
  readonly tag: string;
  readonly mapIds: readonly number[];
}

/** Values of `const volatile` variables by name: numbers of 32 bits in the machine's byte order, or bytes. */
export type BpfConstants = Readonly<Record<string, number | Uint8Array>>;

export interface BpfLoadOptions {
  /** Prefix of the map of constants, as `bpftool map` shows it. */
  readonly name: string;
  /** Loads the program with these values; without, only the maps are created. */
  readonly constants?: BpfConstants;
  /** Maps to be used instead of new ones, by name. */
  readonly maps: Readonly<Record<string, BpfHandle>>;
}

export interface LoadedBpfObject {
  /** Absent if only the maps were requested. */
  readonly program?: BpfHandle;
  /** All maps of the object by name: those of the options, and new ones. */
  readonly maps: Readonly<Record<string, BpfHandle>>;
}

/** Entries of a map, concatenated. */
export interface BpfMapEntries {
  readonly count: number;
  readonly keys: Buffer;
  readonly values: Buffer;
}

/** Result of running a program on a packet. */
export interface BpfTestResult {
  /** TC_ACT_* (linux/pkt_cls.h). */
  readonly action: number;
  readonly mark: number;
  readonly packet: Buffer;
}

/** Names of the standard streams, indexed by number. */
const STREAMS = ['stdin', 'stdout', 'stderr'] as const;

export interface SpawnOptions {
  /** The whole environment; a program without a slash in its name is searched in its PATH. */
  readonly env: Readonly<Record<string, string>>;
  /** In a new session, without a terminal and outside our process group; false if absent. */
  readonly session?: boolean | undefined;
  /** Standard streams connected by pipes; the others are /dev/null. */
  readonly pipes?: readonly (typeof STREAMS)[number][] | undefined;
  /** Content of standard input, complete before the program starts and not readable by other users (memfd_create(2)). */
  readonly input?: Uint8Array | undefined;
}

/** How a child process ended. */
export interface ProcessEnd {
  /** Undefined if it was ended by a signal. */
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
  bpfObjectMaps(elf: Uint8Array): BpfMapShape[];
  bpfObjectConstants(elf: Uint8Array, constants: BpfConstants): Buffer;
  loadBpfObject(elf: Uint8Array, options: BpfLoadOptions): LoadedBpfObject;
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

/** Searched beside the bundle (or above its chunks), then in the build directory of a checkout, then in the environment. */
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

/** Path of the task shim `mesh-task`; its arguments and files are documented in native/task/mesh-task.c. */
export function taskShimPath(): string {
  return findBuildOutput('mesh-task', process.env['MESHD_TASK_SHIM']);
}

/**
 * Opens a netlink socket. An exception of `onEvent` becomes an uncaughtException
 * of the process; the socket stays usable. Throws a system error: EINVAL if
 * `netns` is not a network namespace, EPERM without CAP_SYS_ADMIN for a foreign one.
 */
export function openNetlink(options: NetlinkOptions, onEvent: (event: NetlinkEvent) => void): NetlinkSocket {
  const { pid, ...rest } = options;
  return addon().openNetlink(pid === undefined ? rest : { ...rest, netns: { pid } }, onEvent);
}

/**
 * Creates a network namespace pinned at `path`, like `ip netns add`: `ip netns`
 * lists those in /run/netns. EEXIST if `path` exists. Loopback is down.
 * The parent directory (created if needed, one level) becomes a shared mount.
 */
export function createNetns(path: string): void {
  addon().createNetns(path);
}

/** Pins an existing namespace at `path`. EEXIST if `path` exists. */
export function pinNetns(source: NetnsRef, path: string): void {
  addon().pinNetns(source, path);
}

/**
 * Removes a pin; the kernel destroys the namespace after its last process and
 * socket. ENOENT if there is none; EINVAL, without any change, if `path` is not
 * a pin or the empty file of an interrupted one.
 */
export function deleteNetns(path: string): void {
  addon().deleteNetns(path);
}

/** A descriptor of the namespace; the caller closes it (fs.closeSync). */
export function openNetns(ref: NetnsRef): number {
  return addon().openNetns(ref);
}

/** Identity of a namespace. ENOENT if the path or process does not exist, EINVAL if it is not a namespace. */
export function netnsIdentity(ref: NetnsRef): NetnsIdentity {
  return addon().netnsIdentity(ref);
}

/**
 * Runs a synchronous function with this thread in the namespace; child
 * processes spawned in it stay there. Always returns to the original namespace;
 * exits the process if the kernel rejects that. Asynchronous continuations
 * (promises, net.connect) would run outside, hence thenables are rejected.
 */
export function inNetns<T>(ref: NetnsRef, fn: () => T): T {
  const result = addon().inNetns(ref, fn);
  if (typeof (result as { then?: unknown } | null | undefined)?.then === 'function') {
    throw new TypeError('inNetns runs synchronous functions only: its promise would continue outside the namespace');
  }
  return result;
}

/**
 * A socket in a namespace, close-on-exec. The caller passes the descriptor to
 * Node, which owns it from then on: net.Server.listen({fd}), new net.Socket({fd}),
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

/** getsockopt(2) into a buffer of the requested size; some options read input from it. */
export function getSocketOption(fd: number, level: number, name: number, value: Uint8Array): void {
  addon().getSocketOption(fd, level, name, value);
}

/**
 * Credentials of the peer of a connected unix stream socket (SO_PEERCRED and SO_PEERGROUPS, socket(7)). Throws a system
 * error: EBADF or ENOTSOCK for another kind of descriptor, EINVAL for a socket of another family or a listening one,
 * ENOTCONN if it is not connected.
 */
export function peerCredentials(fd: number): PeerCredentials {
  return addon().peerCredentials(fd);
}

/**
 * Calls `onExit` once when the process ends, whether or not it is our child.
 * With `startTime` (see processStartTime) the start time must match.
 * ESRCH if the process does not exist. A zombie counts as ended.
 */
export function watchProcess(pid: number, onExit: () => void, startTime?: number): ProcessWatch {
  const watch = addon().watchProcess(pid, onExit);
  // The pidfd pins the process with this number now; only after that is the start time check reliable.
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
 * Starts a program in `/`, in the netns of this thread, without copying our page tables (native/addon/spawn.cc):
 * child_process.spawn() takes longer the more memory we use, and blocks the event loop meanwhile. `onExit` is called
 * once; the pipes may still hold output then. Throws a system error if it cannot be started: ENOENT if there is no such program.
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

/** Signals the watched process, never another one that reuses its number. ESRCH if it has ended. */
export function signalProcess(watch: ProcessWatch, signal: NodeJS.Signals): void {
  watch.signal(constants.signals[signal]);
}

/** Start time in clock ticks since boot, field 22 of /proc/PID/stat; undefined if there is no such process. */
export function processStartTime(pid: number): number | undefined {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The name in parentheses may itself contain spaces and parentheses.
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]);
  } catch {
    return undefined;
  }
}

/**
 * sd_notify(3): notifies the service manager, e.g. "READY=1". False if
 * NOTIFY_SOCKET is not set; throws a system error if sending fails.
 */
export function sdNotify(state: string): boolean {
  const socket = process.env['NOTIFY_SOCKET'];
  if (!socket) return false;
  addon().sendUnixDatagram(socket, state);
  return true;
}

/** An object file compiled from native/bpf, such as `router-in`. */
export function readBpfObject(name: string): Buffer {
  return readFileSync(findBuildOutput(`${name}.bpf.o`, undefined));
}

/** The maps that an object file defines. */
export function bpfObjectMaps(elf: Uint8Array): BpfMapShape[] {
  return addon().bpfObjectMaps(elf);
}

/** Content of the map of constants that `loadBpfObject` creates from these values. TypeError for an unknown name. */
export function bpfObjectConstants(elf: Uint8Array, constants: BpfConstants): Buffer {
  return addon().bpfObjectConstants(elf, constants);
}

/**
 * Loads an object file with one program through libbpf. EPERM without CAP_BPF or CAP_SYS_ADMIN. If the kernel rejects the
 * program, the error's `log` contains the end of the verifier log.
 */
export function loadBpfObject(elf: Uint8Array, options: BpfLoadOptions): LoadedBpfObject {
  return addon().loadBpfObject(elf, options);
}

/** Undefined if no program has this id. */
export function bpfProgramById(id: number): BpfHandle | undefined {
  return addon().bpfProgramById(id);
}

/** Undefined if no map has this id. */
export function bpfMapById(id: number): BpfHandle | undefined {
  return addon().bpfMapById(id);
}

export function bpfProgramInfo(program: BpfHandle): BpfProgramInfo {
  return addon().bpfProgramInfo(program);
}

export function bpfMapInfo(map: BpfHandle): BpfMapInfo {
  return addon().bpfMapInfo(map);
}

/** The value, or undefined if there is no such entry. */
export function lookUpBpfMap(map: BpfHandle, key: Uint8Array): Buffer | undefined {
  return addon().lookUpBpfMap(map, key);
}

/** Creates or overwrites an entry; E2BIG if the map is full. */
export function updateBpfMap(map: BpfHandle, key: Uint8Array, value: Uint8Array): void {
  addon().updateBpfMap(map, key, value);
}

/** Deletes an entry; false if it did not exist. EINVAL for arrays, whose entries cannot be deleted. */
export function deleteFromBpfMap(map: BpfHandle, key: Uint8Array): boolean {
  return addon().deleteFromBpfMap(map, key);
}

/** All entries; those added or deleted concurrently may be missing. */
export function bpfMapEntries(map: BpfHandle): BpfMapEntries {
  return addon().bpfMapEntries(map);
}

/** Runs a program on one Ethernet frame (BPF_PROG_TEST_RUN), which is not sent anywhere. */
export function testBpfProgram(program: BpfHandle, packet: Uint8Array, mark = 0): BpfTestResult {
  return addon().testBpfProgram(program, packet, mark);
}
