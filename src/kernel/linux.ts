import { mkdirSync } from 'node:fs';
import type { Log } from '../base/log.ts';
import { transition } from '../diff/change.ts';
import { type KernelObject, keyOf, type Op } from '../model/kernel-state.ts';
import { type ApplyMeter, type Hands, takeSteps } from './apply.ts';
import { type Failure, failureOf, isDoubtful } from './failure.ts';
import { openFirewall } from './firewall.ts';
import { balancerAddresses, endFlows, flowChanges } from './flows.ts';
import { ipvsFamily } from './ipvs.ts';
import { type ApplyReport, asksFor, type Kernel, type Scope, zeroCounters } from './kernel.ts';
import { emptyKnown } from './known.ts';
import { openNamespaces } from './namespaces.ts';
import { type Eyes, observe } from './observe.ts';
import { openShortcuts } from './shortcuts.ts';
import { openSocketOwners } from './socket-owners.ts';
import { listConnections, listListeners } from './sockets.ts';
import { openTransport } from './transport.ts';
import { openWatch } from './watch.ts';

export interface LinuxKernelOptions {
  log: Log;
  /** Where namespaces are pinned; /run/netns when not given, so that `ip netns` shows them. Made when missing. */
  runDir?: string;
  /**
   * What the node should hold, as far as known. Sysctls and IPVS timeouts have no owner's mark, so only those named
   * here are observed; of a jump that is alone in its chain it tells whether that is first or last.
   */
  wanted?: () => ReadonlyMap<string, KernelObject>;
}

/** The kernel of this machine, in the netns the process is in. Needs CAP_NET_ADMIN and CAP_SYS_ADMIN (see preflight). */
export async function openLinuxKernel(options: LinuxKernelOptions): Promise<Kernel> {
  const { log, runDir = '/run/netns', wanted = () => new Map<string, KernelObject>() } = options;
  mkdirSync(runDir, { recursive: true });
  const counters = zeroCounters();
  const namespaces = openNamespaces(runDir);
  const transport = openTransport(namespaces, counters);
  const firewall = openFirewall(namespaces, transport, counters);
  const ipvs = ipvsFamily(transport);
  const shortcuts = openShortcuts(transport, namespaces);
  const eyes: Eyes = { transport, namespaces, firewall, ipvs, shortcuts, wanted };
  const hands: Hands = { transport, namespaces, firewall, ipvs, shortcuts };
  const known = emptyKnown();
  const stops = new Set<() => void>();
  let ownLinks = new Set<string>();
  let applies = 0;
  let running = 0;
  let turn: Promise<unknown> = Promise.resolve();

  async function look(scope: Scope): Promise<Map<string, KernelObject>> {
    counters.observes += 1;
    if (asksFor(scope, 'netns')) transport.sweep();
    const before = applies;
    const found = await observe(eyes, scope);
    // What an apply did meanwhile is newer than what was seen.
    if (before === applies && running === 0) known.saw(scope, found);
    return found;
  }

  async function applyAll(ops: readonly Op[]): Promise<ApplyReport> {
    const meter: ApplyMeter = { sends: 0, messages: 0, bytes: 0, firewallRuns: 0 };
    for (const { object } of ops) for (const link of linksOf(object)) ownLinks.add(link);
    const flows = flowChanges(ops);
    const balancer =
      flows.length === 0
        ? new Set<string>()
        : balancerAddresses([...known.values(), ...ops.map(({ object }) => object)]);
    const failures = await takeSteps(hands, ops, meter);
    if (flows.length > 0) await endFlows(transport, flows, balancer, log);
    await secondLook(ops, failures);
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
      else report.failed.push({ op, error: failureOf(op, failure) });
    });
    known.did(report.done);
    counters.operations += ops.length;
    counters.failed += report.failed.length;
    for (const { error } of report.failed) log.debug({ error: error.message }, 'kernel operation failed');
    return report;
  }

  /** Takes those out of the failures whose result is there all the same. */
  async function secondLook(ops: readonly Op[], failures: Map<number, Failure>): Promise<void> {
    const doubtful = [...failures].flatMap(([place, failure]) => {
      const op = ops[place];
      return op && isDoubtful(op, failure) ? [{ place, op, key: keyOf(op.object) }] : [];
    });
    if (doubtful.length === 0) return;
    const have = await observe(eyes, {
      netns: [...new Set(doubtful.map(({ op }) => op.object.netns))],
      kinds: [...new Set(doubtful.map(({ op }) => op.object.kind))],
    });
    const last = new Map(ops.map((op, place) => [keyOf(op.object), place]));
    for (const { place, op, key } of doubtful.reverse()) {
      const later = last.get(key) ?? place;
      const found = have.get(key);
      const there =
        op.verb === 'delete' ? found === undefined : found !== undefined && transition(found, op.object) === 'none';
      // Of what was made anew afterwards, a look no longer tells whether it had gone before; its making does.
      if (later === place ? there : !failures.has(later)) failures.delete(place);
    }
  }

  return {
    observe: (scope = {}) => look(scope),
    apply(ops) {
      applies += 1;
      running += 1;
      const mine = turn
        .then(() => applyAll(ops))
        .finally(() => {
          running -= 1;
        });
      turn = mine.catch(() => undefined);
      return mine;
    },
    watch(onChange) {
      const stop = openWatch(
        {
          transport,
          namespaces,
          known,
          log,
          busy: () => running > 0,
          takeOwnLinks() {
            const taken = ownLinks;
            ownLinks = new Set();
            return taken;
          },
          isOwnProcess: firewall.isOwnProcess,
        },
        onChange,
      );
      stops.add(stop);
      return () => {
        stops.delete(stop);
        stop();
      };
    },
    listeners: (netns) => listListeners(transport, namespaces, netns),
    socketOwners: openSocketOwners(),
    connections: (netns, fwmarks) => listConnections(transport, ipvs, netns, fwmarks),
    netnsPath: (netns) => namespaces.path(netns),
    counters: () => ({ ...counters }),
    close() {
      for (const stop of stops) stop();
      stops.clear();
      shortcuts.close();
      transport.close();
    },
  };
}

/** Links an object is, as `netns name`. */
function linksOf(object: KernelObject): string[] {
  if (object.kind === 'vxlan') return [`${object.netns} ${object.name}`];
  if (object.kind !== 'veth') return [];
  return [`${object.netns} ${object.name}`, `${object.peer.netns} ${object.peer.name}`];
}
