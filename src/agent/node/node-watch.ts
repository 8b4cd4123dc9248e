import type { Clock } from '../../base/clock.ts';
import { messageOf } from '../../base/errors.ts';
import type { Log } from '../../base/log.ts';
import type { HostAddress, HostNetwork, HostNetworkChange, HostRoute } from '../../kernel/kernel.ts';
import type { Cidr, IpAddress } from '../../model/address.ts';
import { type Condition, type ConditionCode, condition, renderCondition } from '../../model/condition.ts';
import type { Conditions } from '../conditions.ts';
import { overlapCondition, overlaps } from './overlap.ts';
import { measureUnderlay, type Underlay } from './underlay-mtu.ts';

/*
 * What the doctor would find about the host and costs little to observe is a condition, so that the manager can act on it:
 * the advertised address, the routes to the other nodes, networks that overlap the overlay, a full connection table, a full disk. The MTU towards the
 * other nodes is followed.
 */

export interface NodeWatchOptions {
  network: HostNetwork;
  /** What the node runs out of. */
  pressure(): Promise<Condition[]>;
  underlay: IpAddress;
  /** Subnets of the overlay; empty before the first assignment. */
  overlay(): readonly Cidr[];
  /** Underlay addresses of the other nodes. */
  peers(): readonly IpAddress[];
  conditions: Conditions;
  /** The MTU of packets to the other nodes, bytes, after each scan. */
  onUnderlayMtu(mtu: number): void;
  clock: Clock;
  log: Log;
}

export interface NodeWatch {
  /** Resolves after the first scan, also when it failed. */
  start(): Promise<void>;
  /** The peers or the subnets of the overlay may have changed. */
  assignmentChanged(): void;
  stop(): void;
}

/**
 * Milliseconds from a change to the scan that it causes, and between two scans without one; at least `factor` times the
 * duration of the last scan.
 */
const SCAN_DELAY = { change: 200, period: 5_000, factor: 20 };
const WATCHED: readonly ConditionCode[] = [
  'UnderlayAddressMissing',
  'UnderlayDisconnected',
  'OverlayOverlap',
  'ConntrackFull',
  'DiskNearlyFull',
];

export function createNodeWatch(options: NodeWatchOptions): NodeWatch {
  const { network, underlay, conditions, clock, log } = options;
  let routes: readonly HostRoute[] = [];
  let routesCurrent = false;
  let scanning = false;
  let scanRequested = false;
  let stopped = false;
  let duration = 0;
  let cancelTimer = () => {};
  let stopEvents = () => {};

  async function scan(): Promise<void> {
    cancelTimer();
    if (scanning) {
      scanRequested = true;
      return;
    }
    scanning = true;
    scanRequested = false;
    const startedAt = clock.monotonic();
    try {
      const addresses = await network.addresses();
      if (!routesCurrent) {
        routesCurrent = true; // an event during the listing makes it outdated again
        routes = await network.routes();
      }
      const measured = await measureUnderlay(network, underlay, options.peers());
      const found = [...hostConditions(addresses, measured), ...(await options.pressure())];
      if (!stopped) {
        publish(found);
        if (measured !== undefined) options.onUnderlayMtu(measured.mtu);
      }
    } catch (thrown) {
      routesCurrent = false;
      if (!stopped) log.warn(`cannot read the network of this host: ${messageOf(thrown)}`);
    }
    scanning = false;
    duration = clock.monotonic() - startedAt;
    schedule(scanRequested ? SCAN_DELAY.change : SCAN_DELAY.period);
  }

  function schedule(delay: number): void {
    if (stopped) return;
    cancelTimer();
    cancelTimer = clock.after(Math.max(delay, duration * SCAN_DELAY.factor), () => void scan());
  }

  function requestScan(): void {
    if (scanRequested) return;
    scanRequested = true;
    if (!scanning) schedule(SCAN_DELAY.change);
  }

  function onNetworkChange(change: HostNetworkChange): void {
    if (change.of === 'unknown' || (change.of === 'route' && mayOverlap(change.destination))) routesCurrent = false;
    requestScan();
  }

  function mayOverlap(destination: Cidr): boolean {
    const overlay = options.overlay();
    return overlay.length === 0 || overlay.some((subnet) => overlaps(subnet, destination));
  }

  function hostConditions(addresses: readonly HostAddress[], measured: Underlay | undefined): Condition[] {
    const overlap = overlapCondition(routes, addresses, options.overlay());
    // The end of a route may come without an event: of a link that goes down (fib_table_flush, net/ipv4/fib_trie.c).
    if (overlap !== undefined) routesCurrent = false;
    const isPresent = addresses.some(({ address }) => address === underlay);
    return [
      ...(isPresent ? [] : [condition('UnderlayAddressMissing', { address: underlay })]),
      ...(measured?.disconnected === undefined
        ? []
        : [condition('UnderlayDisconnected', { address: underlay, problem: measured.disconnected })]),
      ...(overlap === undefined ? [] : [overlap]),
    ];
  }

  function publish(found: readonly Condition[]): void {
    for (const code of WATCHED) {
      const raised = found.find((one) => one.code === code);
      const before = conditions.get(code);
      if (raised !== undefined) {
        if (before === undefined) log.warn(renderCondition(raised));
        conditions.raise(raised);
      } else if (before !== undefined) {
        log.info(`the condition ${code} is over`);
        conditions.clear(code);
      }
    }
  }

  return {
    start() {
      stopEvents = network.watch(onNetworkChange);
      return scan();
    },
    assignmentChanged: requestScan,
    stop() {
      stopped = true;
      stopEvents();
      cancelTimer();
    },
  };
}
