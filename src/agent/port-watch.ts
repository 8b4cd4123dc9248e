import { readFileSync } from 'node:fs';
import ipaddr from 'ipaddr.js';
import type { Clock } from '../base/clock.ts';
import { messageOf } from '../base/errors.ts';
import type { Log } from '../base/log.ts';
import type { Listener as Socket, SocketOwner } from '../kernel/kernel.ts';
import type { AssignedPort } from '../model/assignment.ts';
import type { Listener, PortCondition } from '../model/cluster.ts';
import { sameValue } from '../model/equality.ts';
import { portKey } from '../model/spec.ts';
import { byPort, isWithheld, type ListenersByPort, listenerConditions } from './port-conditions.ts';

export interface PortWatchOptions {
  clock: Clock;
  log: Log;
  /** Sockets of the host that wait for clients. */
  sockets(): Promise<Socket[]>;
  owners(inodes: ReadonlySet<number>): Promise<Map<number, SocketOwner>>;
  /** The process that is meshd. */
  pid: number;
  /** What is published on this node, withheld ports too. */
  ports(): readonly AssignedPort[];
  /** What else may be wrong with a published port on this node. */
  judges: readonly ((ports: readonly AssignedPort[]) => PortCondition[])[];
  onListeners(listeners: Listener[]): void;
  onConditions(conditions: PortCondition[]): void;
  /** These ports are to be taken, and these no more. */
  onWithheld(released: AssignedPort[], withheld: string[]): void;
}

/** Sees which programs of the host want the same ports as the mesh. */
export interface PortWatch {
  /** Resolves after the first look, that it made anything of it or not. */
  start(): Promise<void>;
  /** Those of the ports that this node may take, by what the last look has shown; it is then taken to have just them. */
  offered(ports: readonly AssignedPort[]): AssignedPort[];
  /** Whether this node may take the port. */
  takes(port: AssignedPort): boolean;
  /** Other ports are published, or the same in another way. */
  portsChanged(): void;
  listeners(): Listener[];
  conditions(): PortCondition[];
  stop(): void;
}

/**
 * Milliseconds between two looks, or as many times what the last one took; no longer than the limit, for one look may
 * have waited for others' turns in the kernel.
 */
const REST = { period: 3_000, factor: 20, limit: 6_000 };
/** Changes of ports are judged together after this long, ms; a look at the sockets follows. */
const GATHER = 50;
/** What is reported at a time. */
const REPORTED = 4_096;

export function createPortWatch(options: PortWatchOptions): PortWatch {
  const { clock, log } = options;
  let listeners: Listener[] = [];
  let known: ListenersByPort = new Map();
  let conditions: PortCondition[] = [];
  let withheld = new Set<string>();
  let passing = new Set<number>();
  let stopped = false;
  let looking = false;
  let again = false;
  let cancelLook = () => {};
  let cancelJudge: (() => void) | undefined;

  async function look(): Promise<void> {
    if (stopped || looking) {
      again = looking;
      return;
    }
    looking = true;
    cancelLook();
    const begin = clock.monotonic();
    try {
      const seen = await measure();
      if (!stopped && !sameValue(seen, listeners)) {
        listeners = seen;
        known = byPort(seen);
        options.onListeners(seen);
        judge();
      }
    } catch (thrown) {
      log.warn(`cannot see who listens on this host's ports: ${messageOf(thrown)}`);
    }
    looking = false;
    if (stopped) return;
    const rest = again
      ? GATHER
      : Math.min(REST.limit, Math.max(REST.period, (clock.monotonic() - begin) * REST.factor));
    again = false;
    cancelLook = clock.after(rest, () => void look());
  }

  async function measure(): Promise<Listener[]> {
    const all = await options.sockets();
    const range = ephemeral();
    const steady = all.filter((socket) => !isPassing(socket, range) || passing.has(socket.inode ?? 0));
    passing = new Set(all.flatMap(({ inode }) => (inode === undefined ? [] : [inode])));
    const owners = await options.owners(new Set(steady.flatMap(({ inode }) => (inode ? [inode] : []))));
    return steady
      .flatMap(({ protocol, port, address: text, inode }): Listener[] => {
        const address = canonical(text);
        if (address === undefined) return [];
        const owner = owners.get(inode ?? 0);
        if (owner === undefined) return [{ protocol, port, address }];
        const process = owner.pid === options.pid ? 'meshd' : owner.process;
        return [{ protocol, port, address, pid: owner.pid, process }];
      })
      .sort(inOrder)
      .filter((listener, index, list) => index === 0 || inOrder(listener, list[index - 1]!) !== 0)
      .slice(0, REPORTED);
  }

  /** Judges all ports anew, and moves those that may be taken now or no more. */
  function judge(): void {
    cancelJudge?.();
    cancelJudge = undefined;
    if (stopped) return;
    const ports = options.ports();
    const kept = ports.filter((port) => isWithheld(port, known));
    const keys = new Set(kept.map(portKey));
    const released = ports.filter((port) => withheld.has(portKey(port)) && !keys.has(portKey(port)));
    const added = [...keys].filter((key) => !withheld.has(key));
    withheld = keys;
    if (released.length > 0 || added.length > 0) options.onWithheld(released, added);
    const judged = [listenerConditions(ports, known), ...options.judges.map((conditionsOf) => conditionsOf(ports))];
    const next = judged.flat().slice(0, REPORTED);
    if (sameValue(next, conditions)) return;
    tell(next);
    conditions = next;
    options.onConditions(next);
  }

  function tell(next: readonly PortCondition[]): void {
    const before = new Set(conditions.map(textOf));
    for (const condition of next) if (!before.has(textOf(condition))) log.warn(textOf(condition));
    const after = new Set(next.map(({ protocol, published }) => portKey({ protocol, published })));
    for (const { protocol, published } of conditions) {
      const key = portKey({ protocol, published });
      if (!after.has(key)) log.info(`port ${key} is the service's again, as declared`);
    }
  }

  return {
    start: look,
    offered(ports) {
      return ports.filter((port) => {
        const keeps = isWithheld(port, known);
        if (keeps) withheld.add(portKey(port));
        else withheld.delete(portKey(port));
        return !keeps;
      });
    },
    takes: (port) => !isWithheld(port, known),
    portsChanged() {
      if (stopped) return;
      cancelJudge ??= clock.after(GATHER, () => {
        cancelJudge = undefined;
        judge();
        void look();
      });
    },
    listeners: () => listeners,
    conditions: () => conditions,
    stop() {
      stopped = true;
      cancelLook();
      cancelJudge?.();
    },
  };
}

/** A UDP socket with a port that the kernel chose is mostly a client's, and gone at the next look. */
function isPassing({ protocol, port }: Socket, [from, to]: readonly [number, number]): boolean {
  return protocol === 'udp' && port >= from && port <= to;
}

function ephemeral(): [number, number] {
  try {
    const [from = 0, to = 0] = readFileSync('/proc/sys/net/ipv4/ip_local_port_range', 'latin1')
      .split(/\s+/)
      .map(Number);
    return [from, to];
  } catch {
    return [32_768, 60_999];
  }
}

/** In the one spelling; an IPv4 address within IPv6 is what it stands for. */
function canonical(address: string): string | undefined {
  if (!ipaddr.isValid(address)) return undefined;
  const parsed = ipaddr.process(address);
  return parsed instanceof ipaddr.IPv6 ? parsed.toRFC5952String() : parsed.toString();
}

function inOrder(a: Listener, b: Listener): number {
  return (
    compare(a.protocol, b.protocol) || a.port - b.port || compare(a.address, b.address) || (a.pid ?? 0) - (b.pid ?? 0)
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : Number(a > b);
}

function textOf({ protocol, published, kind, message }: PortCondition): string {
  return `port ${published}/${protocol} ${kind === 'fallback' ? '' : `is ${kind}`}: ${message}`;
}
