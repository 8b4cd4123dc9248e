import { mkdirSync } from 'node:fs';
import type { Log } from '../../base/log.ts';
import { transition } from '../../diff/change.ts';
import { balancerAddresses } from '../../model/balancer-addresses.ts';
import { keyOf, type Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { startWatch } from '../events/watch.ts';
import { openFastPathDriver } from '../fast-path/fast-path-driver.ts';
import { openFirewall } from '../firewall/firewall.ts';
import { createHostNetwork } from '../host/host-network.ts';
import { readHostRouting } from '../host/host-routing.ts';
import { lookUpRoute } from '../host/route-lookup.ts';
import { createSocketOwnerLookup } from '../host/socket-owners.ts';
import { listConnections, listListeners } from '../host/sockets.ts';
import { endStaleFlows } from '../ipvs/end-flows.ts';
import { openIpvsFamily } from '../ipvs/ipvs.ts';
import { flowChanges, publishedPorts } from '../ipvs/stale-flows.ts';
import { type ApplyReport, coversKind, type Kernel, type Scope, zeroCounters } from '../kernel.ts';
import { linksOf } from '../kinds/registry.ts';
import { observe } from '../observe/observe.ts';
import type { ObserveContext } from '../observe/observer.ts';
import { type ApplyContext, type ApplyMeter, executeSteps } from './apply.ts';
import { needsVerification, toMeshError } from './failed-operation.ts';
import type { Failure } from './failure.ts';
import { openNamespaces } from './namespaces.ts';
import { createObservedCache } from './observed-cache.ts';
import { openTransport } from './transport.ts';

export interface LinuxKernelOptions {
  log: Log;
  /** Where namespaces are pinned; by default /run/netns, so that `ip netns` shows them. Created when missing. */
  runDir?: string;
  /**
   * What the node should hold, as far as known. Sysctls and IPVS timeouts have no owner's mark, so only those named
   * here are observed; for a jump that is alone in its chain it gives the position.
   */
  desired?: () => ReadonlyMap<string, KernelObject>;
}

/** The kernel of this machine, in the netns the process is in. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN (see preflight). */
export async function openLinuxKernel(options: LinuxKernelOptions): Promise<Kernel> {
  const { log, runDir = '/run/netns', desired = () => new Map<string, KernelObject>() } = options;
  mkdirSync(runDir, { recursive: true });
  const counters = zeroCounters();
  const namespaces = openNamespaces(runDir);
  const transport = openTransport(namespaces, counters);
  const firewall = openFirewall(namespaces, transport, counters);
  const ipvs = openIpvsFamily(transport);
  const fastPath = openFastPathDriver(transport, namespaces);
  const observeContext: ObserveContext = { transport, namespaces, firewall, ipvs, fastPath, desired };
  const applyContext: ApplyContext = { transport, namespaces, firewall, ipvs, fastPath };
  const cache = createObservedCache();
  const stops = new Set<() => void>();
  let ownLinks = new Set<string>();
  let applyCount = 0;
  let runningApplies = 0;
  let queue: Promise<unknown> = Promise.resolve();
  let flowCheckQueued = false;

  async function observeScope(scope: Scope): Promise<Map<string, KernelObject>> {
    counters.observes += 1;
    if (coversKind(scope, 'netns')) transport.closeStale();
    const before = applyCount;
    const found = await observe(observeContext, scope);
    // The changes of a concurrent apply are newer than the observation.
    if (before === applyCount && runningApplies === 0) cache.recordObserved(scope, found);
    return found;
  }

  async function applyAll(ops: readonly Op[]): Promise<ApplyReport> {
    const meter: ApplyMeter = { sends: 0, messages: 0, bytes: 0, firewallRuns: 0 };
    for (const { object } of ops) for (const { netns, name } of linksOf(object)) ownLinks.add(`${netns} ${name}`);
    const flows = flowChanges(ops, () => desired().values());
    const balancer =
      flows.length === 0
        ? new Set<string>()
        : balancerAddresses([...cache.values(), ...ops.map(({ object }) => object)]);
    const failures = await executeSteps(applyContext, ops, meter);
    if (flows.length > 0) await endStaleFlows(transport, flows, balancer, log);
    await verifyFailures(ops, failures);
    const report: ApplyReport = {
      done: [],
      failed: [],
      sends: meter.sends,
      messages: meter.messages,
      firewallRuns: meter.firewallRuns,
    };
    ops.forEach((op, place) => {
      const failure = failures.get(place);
      if (failure === undefined) report.done.push(op);
      else report.failed.push({ op, error: toMeshError(op, failure) });
    });
    cache.recordApplied(report.done);
    counters.operations += ops.length;
    counters.failed += report.failed.length;
    for (const { error } of report.failed) log.debug({ error: error.message }, 'kernel operation failed');
    return report;
  }

  /** Runs work after all applies requested so far. */
  function enqueue<T>(work: () => Promise<T>): Promise<T> {
    const result = queue.then(work);
    queue = result.catch(() => undefined);
    return result;
  }

  function endUntranslatedFlows(): Promise<void> {
    return enqueue(async () => {
      flowCheckQueued = false;
      const ports = publishedPorts(desired().values());
      if (ports.length > 0) await endStaleFlows(transport, ports, new Set(), log);
    });
  }

  /** Removes the failures whose operation has its result all the same. */
  async function verifyFailures(ops: readonly Op[], failures: Map<number, Failure>): Promise<void> {
    const uncertain = [...failures].flatMap(([place, failure]) => {
      const op = ops[place];
      return op && needsVerification(op, failure) ? [{ place, op, key: keyOf(op.object) }] : [];
    });
    if (uncertain.length === 0) return;
    const have = await observe(observeContext, {
      netns: [...new Set(uncertain.map(({ op }) => op.object.netns))],
      kinds: [...new Set(uncertain.map(({ op }) => op.object.kind))],
    });
    const last = new Map(ops.map((op, place) => [keyOf(op.object), place]));
    for (const { place, op, key } of uncertain.reverse()) {
      const later = last.get(key) ?? place;
      const found = have.get(key);
      const there =
        op.verb === 'delete' ? found === undefined : found !== undefined && transition(found, op.object) === 'none';
      // Whether an object was deleted before it was created again shows in the result of the creation.
      if (later === place ? there : !failures.has(later)) failures.delete(place);
    }
  }

  return {
    observe: (scope = {}) => observeScope(scope),
    apply(ops) {
      applyCount += 1;
      runningApplies += 1;
      return enqueue(() =>
        applyAll(ops).finally(() => {
          runningApplies -= 1;
        }),
      );
    },
    watch(onChange) {
      const stop = startWatch(
        {
          transport,
          namespaces,
          cache,
          log,
          isApplying: () => runningApplies > 0,
          takeOwnLinks() {
            const taken = ownLinks;
            ownLinks = new Set();
            return taken;
          },
          isOwnProcess: firewall.isOwnProcess,
          onLocalAddress() {
            // Of several in a row, one is enough that begins after the last.
            if (flowCheckQueued) return;
            flowCheckQueued = true;
            void endUntranslatedFlows();
          },
        },
        onChange,
      );
      stops.add(stop);
      return () => {
        stops.delete(stop);
        stop();
      };
    },
    endUntranslatedFlows,
    hostRouting: () => readHostRouting(transport),
    lookUpRoute: (question) => lookUpRoute(transport, question),
    listeners: (netns) => listListeners(transport, namespaces, netns),
    socketOwners: createSocketOwnerLookup(),
    connections: (netns, fwmarks) => listConnections(transport, ipvs, netns, fwmarks),
    netnsPath: (netns) => namespaces.path(netns),
    hostNetwork: createHostNetwork(transport, namespaces),
    counters: () => ({ ...counters }),
    close() {
      for (const stop of stops) stop();
      stops.clear();
      fastPath.close();
      transport.close();
    },
  };
}
