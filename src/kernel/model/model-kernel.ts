import { MeshError } from '../../base/errors.ts';
import type { Op } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import { HOST_LINK } from '../../model/linux-names.ts';
import type { HostRouting } from '../../model/policy-rule.ts';
import { renderStep } from '../../model/render.ts';
import type { Step } from '../driver/steps.ts';
import {
  type Actor,
  type ApplyReport,
  type HostAddress,
  type HostNetworkChange,
  type HostPath,
  type HostRoute,
  type Kernel,
  type Listener,
  type Scope,
  type SocketOwner,
  scopeIncludes,
  zeroCounters,
} from '../kernel.ts';
import type { ModelErrno } from '../kinds/kernel-rules.ts';
import { type LinuxKindRegistry, stepsOf } from '../kinds/registry.ts';
import { createFaultSource, type ModelFaults } from './model-faults.ts';
import { ALL_KINDS, createModelState, type ModelKinds } from './model-rules.ts';

export interface ModelKernel extends Kernel {
  /** An operation of another program: no part of an apply; watchers are called where the kernel announces it. */
  changeExternally(op: Op, by?: readonly Actor[]): ModelErrno | undefined;
  /** What exists of ours, at once and without counting as an observation. */
  state(): Map<string, KernelObject>;
  /** Objects of other programs. */
  foreign(): KernelObject[];
  /** Called after every single operation, with the state in between. */
  onStep(callback: (op: Op, state: ReadonlyMap<string, KernelObject>) => void): void;
  /** Changes the host's own routing, and calls the watchers. */
  setHostRouting(routing: HostRouting): void;
  setListeners(netns: string, listeners: Listener[]): void;
  /** Sets the owner of a socket. */
  setOwner(inode: number, owner: SocketOwner): void;
  /** Open connections of a real server, key as in `connections`. */
  setConnections(netns: string, fwmark: number, server: string, open: number): void;
  setFaults(faults: ModelFaults | undefined): void;
  /** Changes the network of the host, and announces that as the kernel does; `unknown` means that anything may have changed. */
  changeHost(change: Partial<ModelHost>, announced?: HostNetworkChange): void;
}

/** The network of the host itself. */
interface ModelHost {
  addresses: HostAddress[];
  routes: HostRoute[];
  /** To every destination; undefined for none. */
  path: HostPath | undefined;
}

/** The host of node 1 in the assignments of tests. */
const MODEL_HOST: ModelHost = {
  addresses: [{ link: 'eth0', mtu: 1_500, ethernet: true, address: '192.0.2.1', prefix: 24 }],
  routes: [{ link: 'eth0', destination: '192.0.2.0/24', via: undefined }],
  path: { link: 'eth0', mtu: 1_500, carrier: true },
};

export interface ModelKernelOptions {
  /** What exists of ours. */
  objects?: Iterable<KernelObject>;
  /** What exists and belongs to other programs; an operation that changes it throws. */
  foreign?: Iterable<KernelObject>;
  faults?: ModelFaults;
  /** Kinds it knows, the product's when not given. */
  kinds?: ModelKinds;
}

/** A kernel in memory, for tests. Counts sends and messages as the Linux driver would. */
export function createModelKernel(options: ModelKernelOptions = {}): ModelKernel {
  const { kinds = ALL_KINDS } = options;
  const keyOf = (object: KernelObject) => kinds.pure[object.kind]!.key(object);
  const commandOf = (op: Op) => renderStep(op, kinds.pure).join(' && ');
  const stateOf = (objects: Iterable<KernelObject>) => new Map([...objects].map((object) => [keyOf(object), object]));
  const foreign = [...(options.foreign ?? [])];
  const foreignKeys = new Set(foreign.map(keyOf));
  const kernel = createModelState([...foreign, ...(options.objects ?? [])], kinds);
  const counters = zeroCounters();
  const watchers = new Set<(scope: Scope, by: readonly Actor[]) => void>();
  const stepCallbacks: ((op: Op, state: ReadonlyMap<string, KernelObject>) => void)[] = [];
  const listeners = new Map<string, Listener[]>();
  const owners = new Map<number, SocketOwner>();
  const connections = new Map<string, Map<number, Map<string, number>>>();
  const faults = createFaultSource(options.faults);
  const hostWatchers = new Set<(change: HostNetworkChange) => void>();
  let host = MODEL_HOST;
  let hostRouting: HostRouting = { rules: [], localSources: [], strictReversePath: false };

  const ours = () => [...kernel.objects.values()].filter((object) => !foreignKeys.has(keyOf(object)));

  const executeStep = (op: Op): ModelErrno | undefined => {
    if (foreignKeys.has(keyOf(op.object))) throw foreignTouchedError(commandOf(op));
    const refusal = faults.occurs('refuse') ? 'EBUSY' : kernel.step(op);
    if (foreign.some((object) => !kernel.objects.has(keyOf(object)))) throw foreignTouchedError(commandOf(op));
    if (refusal === undefined && stepCallbacks.length > 0) {
      const state = new Map([...kernel.objects].filter(([key]) => !foreignKeys.has(key)));
      for (const callback of stepCallbacks) callback(op, state);
    }
    return refusal;
  };

  const emitEvent = (object: KernelObject, by: readonly Actor[]) => {
    if (!kinds.linux[object.kind]?.events?.complete || faults.occurs('loseEvent')) return;
    const scope: Scope = faults.occurs('overflow') ? {} : { netns: [object.netns], kinds: [object.kind] };
    for (const watcher of [...watchers]) queueMicrotask(() => watchers.has(watcher) && watcher(scope, by));
  };

  const apply = async (ops: readonly Op[]): Promise<ApplyReport> => {
    const report: ApplyReport = { done: [], failed: [], ...countSends(ops, kinds.linux) };
    for (const [index, op] of ops.entries()) {
      if (index > 0 && faults.occurs('crash')) throw crashError(index, ops.length);
      const refusal = executeStep(op);
      if (refusal === undefined) report.done.push(op);
      else report.failed.push({ op, error: toMeshError(commandOf(op), refusal) });
    }
    counters.sends += report.sends;
    counters.messages += report.messages;
    counters.firewallRuns += report.firewallRuns;
    counters.operations += ops.length;
    counters.failed += report.failed.length;
    return report;
  };

  return {
    apply,
    async observe(scope = {}) {
      counters.observes++;
      return stateOf(structuredClone(ours().filter((object) => scopeIncludes(scope, object))));
    },
    watch(onChange) {
      watchers.add(onChange);
      return () => watchers.delete(onChange);
    },
    async endUntranslatedFlows() {},
    hostRouting: async () => hostRouting,
    // The model knows no host: every packet to elsewhere leaves by its one link.
    lookUpRoute: async ({ destination }) =>
      destination.startsWith('10.252.') ? { link: HOST_LINK, table: 254 } : { link: 'eth0', table: 254 },
    async listeners(netns) {
      return [...(listeners.get(netns) ?? [])];
    },
    async socketOwners(inodes) {
      return new Map([...owners].filter(([inode]) => inodes.has(inode)));
    },
    async connections(netns, fwmarks) {
      const open = new Map<string, number>();
      for (const fwmark of fwmarks) {
        for (const [server, count] of connections.get(netns)?.get(fwmark) ?? []) {
          open.set(server, (open.get(server) ?? 0) + count);
        }
      }
      return open;
    },
    netnsPath: (netns) => (netns === 'host' ? '/proc/self/ns/net' : `/run/netns/${netns}`),
    hostNetwork: {
      addresses: async () => host.addresses,
      routes: async () => host.routes,
      async paths(_, destinations) {
        const { path } = host;
        return new Map(path === undefined ? [] : destinations.map((destination) => [destination, path]));
      },
      watch(onChange) {
        hostWatchers.add(onChange);
        return () => hostWatchers.delete(onChange);
      },
    },
    counters: () => ({ ...counters }),
    close: () => watchers.clear(),
    changeExternally(op, by = []) {
      const refusal = executeStep(op);
      if (refusal === undefined) emitEvent(op.object, by);
      return refusal;
    },
    state: () => stateOf(ours()),
    foreign: () => foreign.map((object) => kernel.objects.get(keyOf(object))!),
    onStep: (callback) => void stepCallbacks.push(callback),
    setHostRouting(routing) {
      hostRouting = routing;
      for (const watcher of [...hostWatchers]) watcher({ of: 'addresses' });
    },
    setListeners: (netns, list) => void listeners.set(netns, list),
    setOwner: (inode, owner) => void owners.set(inode, owner),
    setConnections(netns, fwmark, server, open) {
      const marks = connections.get(netns) ?? new Map<number, Map<string, number>>();
      const servers = marks.get(fwmark) ?? new Map<string, number>();
      connections.set(netns, marks.set(fwmark, servers.set(server, open)));
    },
    setFaults: faults.set,
    changeHost(change, announced = { of: 'unknown' }) {
      host = { ...host, ...change };
      for (const watcher of [...hostWatchers]) watcher(announced);
    },
  };
}

/** What the Linux driver would count for these operations: neighbouring steps of one batch are executed together. */
function countSends(ops: readonly Op[], kinds: LinuxKindRegistry) {
  const counts = { sends: 0, messages: 0, firewallRuns: 0 };
  let batch = '';
  for (const step of ops.flatMap((op) => stepsOf(op, kinds))) {
    const next = batchOf(step);
    if (step.backend === 'netlink') counts.messages++;
    if (next !== batch && step.backend === 'netlink') counts.sends++;
    if (next !== batch && step.backend === 'firewall') counts.firewallRuns++;
    batch = next;
  }
  return counts;
}

/** One batch is one send, or one run of iptables-restore. */
function batchOf(step: Step): string {
  if (step.backend === 'netlink') return `netlink ${step.protocol} ${step.netns}`;
  return step.backend === 'firewall' ? `firewall ${step.netns} ${step.op.object.family}` : step.backend;
}

function toMeshError(command: string, refusal: ModelErrno): MeshError {
  return new MeshError('kernel', `${command}: ${refusal}`, { retry: refusal === 'EBUSY' });
}

function crashError(taken: number, all: number): MeshError {
  return new MeshError('internal', `crash: the caller ended after operation ${taken} of ${all}`);
}

function foreignTouchedError(command: string): MeshError {
  return new MeshError('internal', `a foreign object would change: ${command}`);
}
