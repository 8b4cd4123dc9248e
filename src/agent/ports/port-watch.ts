import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import { printable } from '../../base/printable.ts';
import type { Listener as Socket, SocketOwner } from '../../kernel/kernel.ts';
import type { AssignedPort } from '../../model/assignment.ts';
import { canonicalAddress } from '../../model/canonical-address.ts';
import type { Listener, PortCondition } from '../../model/cluster.ts';
import { sameValue } from '../../model/equality.ts';
import { portKey } from '../../model/spec.ts';
import { type PortRange, readEphemeralRange } from './ephemeral-ports.ts';
import { groupByPort, isWithheld, type ListenersByPort, listenerConditions } from './port-conditions.ts';
import { isProtectedSocket } from './protected-listener.ts';

export interface PortWatchOptions {
  clock: Clock;
  log: Log;
  /** Listening sockets of the host. */
  sockets(): Promise<Socket[]>;
  owners(inodes: ReadonlySet<number>): Promise<Map<number, SocketOwner>>;
  /** Process id of meshd. */
  pid: number;
  /** Ports that are published on this node, including withheld ones. */
  ports(): readonly AssignedPort[];
  /** Further checks of the published ports on this node. */
  checks: readonly ((ports: readonly AssignedPort[]) => PortCondition[])[];
  onListeners(listeners: Listener[]): void;
  onConditions(conditions: PortCondition[]): void;
  /** These ports may be published now, and these (keys) not any more. */
  onWithheld(released: AssignedPort[], withheld: string[]): void;
}

/** Detects programs of the host that listen on published ports. */
export interface PortWatch {
  /** Resolves after the first scan, also when it failed. */
  start(): Promise<void>;
  /** Those of the ports that this node may publish, by the last scan; it is then assumed to publish just them. */
  filterPublishable(ports: readonly AssignedPort[]): AssignedPort[];
  /** Whether this node may publish the port. */
  isPublishable(port: AssignedPort): boolean;
  /** The published ports changed. */
  portsChanged(): void;
  listeners(): Listener[];
  conditions(): PortCondition[];
  stop(): void;
}

/**
 * Milliseconds between two scans, at least `factor` times the duration of the last one, which may have waited for other
 * kernel work; at most `limit`.
 */
const SCAN_INTERVAL = { period: 3_000, factor: 20, limit: 6_000 };
/** Changes of ports are evaluated together after this time, ms; a scan of the sockets follows. */
const DEBOUNCE = 50;
/** Listeners and conditions in one report. */
const MAX_REPORTED = 4_096;

export function createPortWatch(options: PortWatchOptions): PortWatch {
  const { clock, log } = options;
  let listeners: Listener[] = [];
  let listenersByPort: ListenersByPort = new Map();
  let conditions: PortCondition[] = [];
  let withheld = new Set<string>();
  let previousInodes = new Set<number>();
  let stopped = false;
  let scanning = false;
  let scanRequested = false;
  let cancelScan = () => {};
  let cancelEvaluate: (() => void) | undefined;

  async function scan(): Promise<void> {
    if (stopped || scanning) {
      scanRequested = scanning;
      return;
    }
    scanning = true;
    cancelScan();
    const startedAt = clock.monotonic();
    try {
      const found = await readListeners();
      if (!stopped && !sameValue(found, listeners)) {
        listeners = found;
        listenersByPort = groupByPort(found);
        options.onListeners(found);
        evaluatePorts();
      }
    } catch (thrown) {
      if (!stopped) log.warn(`cannot read the listening sockets of this host: ${messageOf(thrown)}`);
    }
    scanning = false;
    if (stopped) return;
    const delay = scanRequested
      ? DEBOUNCE
      : Math.min(
          SCAN_INTERVAL.limit,
          Math.max(SCAN_INTERVAL.period, (clock.monotonic() - startedAt) * SCAN_INTERVAL.factor),
        );
    scanRequested = false;
    cancelScan = clock.after(delay, () => void scan());
  }

  async function readListeners(): Promise<Listener[]> {
    const all = await options.sockets();
    const range = readEphemeralRange();
    const steady = all.filter((socket) => !isEphemeralSocket(socket, range) || previousInodes.has(socket.inode ?? 0));
    previousInodes = new Set(all.flatMap(({ inode }) => (inode === undefined ? [] : [inode])));
    const owners = await options.owners(new Set(steady.flatMap(({ inode }) => (inode ? [inode] : []))));
    return steady
      .flatMap(({ protocol, port, address: text, inode }): Listener[] => {
        const address = canonicalAddress(text);
        if (address === undefined) return [];
        const owner = owners.get(inode ?? 0);
        const isProtected = isProtectedSocket({ protocol, port, address }, owner, options.pid);
        const listener: Listener = { protocol, port, address, ...(isProtected ? { protected: true } : {}) };
        if (owner === undefined) return [listener];
        const process = owner.pid === options.pid ? 'meshd' : printable(owner.process);
        return [{ ...listener, pid: owner.pid, process }];
      })
      .sort(compareListeners)
      .filter((listener, index, list) => index === 0 || compareListeners(listener, list[index - 1]!) !== 0)
      .slice(0, MAX_REPORTED);
  }

  /** Evaluates all ports again, and reports those that may be published now, or not any more. */
  function evaluatePorts(): void {
    cancelEvaluate?.();
    cancelEvaluate = undefined;
    if (stopped) return;
    const ports = options.ports();
    const kept = ports.filter((port) => isWithheld(port, listenersByPort));
    const keys = new Set(kept.map(portKey));
    const released = ports.filter((port) => withheld.has(portKey(port)) && !keys.has(portKey(port)));
    const added = [...keys].filter((key) => !withheld.has(key));
    withheld = keys;
    if (released.length > 0 || added.length > 0) options.onWithheld(released, added);
    const judged = [
      listenerConditions(ports, listenersByPort),
      ...options.checks.map((conditionsOf) => conditionsOf(ports)),
    ];
    const next = judged.flat().slice(0, MAX_REPORTED);
    if (sameValue(next, conditions)) return;
    logChanges(next);
    conditions = next;
    options.onConditions(next);
  }

  function logChanges(next: readonly PortCondition[]): void {
    const before = new Set(conditions.map(formatCondition));
    for (const condition of next) if (!before.has(formatCondition(condition))) log.warn(formatCondition(condition));
    const after = new Set(next.map(({ protocol, published }) => portKey({ protocol, published })));
    for (const { protocol, published } of conditions) {
      const key = portKey({ protocol, published });
      if (!after.has(key)) log.info(`port ${key} is published as declared again`);
    }
  }

  return {
    start: scan,
    filterPublishable(ports) {
      return ports.filter((port) => {
        const keeps = isWithheld(port, listenersByPort);
        if (keeps) withheld.add(portKey(port));
        else withheld.delete(portKey(port));
        return !keeps;
      });
    },
    isPublishable: (port) => !isWithheld(port, listenersByPort),
    portsChanged() {
      if (stopped) return;
      cancelEvaluate ??= clock.after(DEBOUNCE, () => {
        cancelEvaluate = undefined;
        evaluatePorts();
        void scan();
      });
    },
    listeners: () => listeners,
    conditions: () => conditions,
    stop() {
      stopped = true;
      cancelScan();
      cancelEvaluate?.();
    },
  };
}

/** A UDP socket on an ephemeral port is mostly a client's, and closed by the next scan. */
function isEphemeralSocket({ protocol, port }: Socket, { from, to }: PortRange): boolean {
  return protocol === 'udp' && port >= from && port <= to;
}

function compareListeners(a: Listener, b: Listener): number {
  return (
    compare(a.protocol, b.protocol) || a.port - b.port || compare(a.address, b.address) || (a.pid ?? 0) - (b.pid ?? 0)
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function formatCondition({ protocol, published, kind, message }: PortCondition): string {
  return `port ${published}/${protocol} ${kind === 'fallback' ? '' : `is ${kind}`}: ${message}`;
}
