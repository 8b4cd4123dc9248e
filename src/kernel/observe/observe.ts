import { type KernelObject, type ObjectKind, stateOf } from '../../model/kernel-state.ts';
import { HOST_NETNS } from '../../model/names.ts';
import { isOurNetns, isTaskNetns, type Namespaces } from '../driver/namespaces.ts';
import type { Transport } from '../driver/transport.ts';
import type { FastPathDriver } from '../fast-path/fast-path-driver.ts';
import type { Firewall } from '../firewall/firewall.ts';
import { firewallObjects } from '../firewall/firewall-text.ts';
import { type IpvsFamily, observeIpvs } from '../ipvs/ipvs.ts';
import { coversKind, type Scope } from '../kernel.ts';
import { createLinkView, type LinkView } from './observe-links.ts';
import { observeRouting } from './observe-routing.ts';
import { observeSets } from './observe-sets.ts';
import { readSysctls } from './sysctl.ts';

/** What looking needs; `wanted` tells which sysctls and timeouts matter, and where jumps are meant to be. */
export interface ObserveContext {
  transport: Transport;
  namespaces: Namespaces;
  firewall: Firewall;
  ipvs: IpvsFamily;
  fastPath: FastPathDriver;
  desired(): ReadonlyMap<string, KernelObject>;
}

/** What the shortcut's maps hold. */
const FAST_PATH_ENTRY_KINDS: readonly ObjectKind[] = ['fast-path-task', 'fast-path-port', 'fast-path-peer'];
const FAST_PATH_KINDS: readonly ObjectKind[] = ['fast-path', ...FAST_PATH_ENTRY_KINDS];
const LINK_DEPENDENT_KINDS: readonly ObjectKind[] = ['address', 'neighbour', 'fdb', 'route', 'rule'];

/** Everything of ours in the scope. A netns that goes away meanwhile is not there. */
export async function observe(context: ObserveContext, scope: Scope): Promise<Map<string, KernelObject>> {
  const matchesKind = (kind: ObjectKind) => coversKind(scope, kind);
  const all = [HOST_NETNS, ...context.namespaces.list()];
  const selected = scope.netns === undefined ? all : all.filter((netns) => scope.netns?.includes(netns));
  const view = createLinkView(context.transport, context.namespaces);
  const desiredByNetns = new Map<string, KernelObject[]>();
  for (const object of context.desired().values()) {
    const list = desiredByNetns.get(object.netns);
    if (list) list.push(object);
    else desiredByNetns.set(object.netns, [object]);
  }
  const names =
    matchesKind('veth') || matchesKind('vxlan')
      ? linkNames(context.desired().values())
      : new Map<string, Set<string>>();
  const lists = await Promise.all(
    selected.map((netns) =>
      observeNetns(context, view, netns, matchesKind, desiredByNetns.get(netns) ?? [], names.get(netns) ?? new Set()),
    ),
  );
  return stateOf(lists.flat());
}

async function observeNetns(
  context: ObserveContext,
  view: LinkView,
  netns: string,
  matchesKind: (kind: ObjectKind) => boolean,
  desired: readonly KernelObject[],
  names: ReadonlySet<string>,
): Promise<KernelObject[]> {
  const identity = context.namespaces.identity(netns);
  try {
    const parts = await Promise.all([
      observeLinks(context, view, netns, matchesKind, names),
      matchesKind('sysctl') ? observeSysctls(context, netns, desired) : [],
      observeServices(context, netns, matchesKind, desired),
      observeFastPath(context, view, netns, matchesKind, desired),
    ]);
    return parts.flat();
  } catch (thrown) {
    const now = context.namespaces.identity(netns);
    if (now === undefined || now !== identity) return [];
    throw thrown;
  }
}

async function observeLinks(
  context: ObserveContext,
  view: LinkView,
  netns: string,
  matchesKind: (kind: ObjectKind) => boolean,
  names: ReadonlySet<string>,
): Promise<KernelObject[]> {
  const objects: KernelObject[] = [];
  if (matchesKind('netns') && isOurNetns(netns)) objects.push(await view.netnsOf(netns));
  if (matchesKind('veth') || matchesKind('vxlan')) {
    objects.push(...(await view.devicesOf(netns)).filter(({ kind }) => matchesKind(kind)));
    objects.push(...(await view.foreignLinksOf(netns, names)));
  }
  if (LINK_DEPENDENT_KINDS.some(matchesKind)) {
    objects.push(...(await observeRouting(context.transport, netns, await view.linksOf(netns), matchesKind)));
  }
  return objects;
}

/** Names that links of ours have, by netns. */
function linkNames(desired: Iterable<KernelObject>): Map<string, Set<string>> {
  const names = new Map<string, Set<string>>();
  const add = ({ netns, name }: { netns: string; name: string }) => {
    const known = names.get(netns);
    if (known) known.add(name);
    else names.set(netns, new Set([name]));
  };
  for (const object of desired) {
    if (object.kind === 'veth' || object.kind === 'vxlan') add(object);
    if (object.kind === 'veth') add(object.peer);
  }
  return names;
}

function observeSysctls(context: ObserveContext, netns: string, desired: readonly KernelObject[]): KernelObject[] {
  const names = desired.flatMap((object) => (object.kind === 'sysctl' ? [object.name] : []));
  const values = readSysctls(context.namespaces.path(netns), names);
  return [...values].map(([name, value]) => ({ kind: 'sysctl', netns, name, value }));
}

/** What is attached in a task's netns is the task's own. */
async function observeFastPath(
  { fastPath }: ObserveContext,
  view: LinkView,
  netns: string,
  matchesKind: (kind: ObjectKind) => boolean,
  desired: readonly KernelObject[],
): Promise<KernelObject[]> {
  if (isTaskNetns(netns) || !FAST_PATH_KINDS.some(matchesKind)) return [];
  // Which maps are the node's is told by what is attached, so that is looked at even when only they are asked for.
  const attached = await fastPath.observePrograms(netns, desired);
  const entries = FAST_PATH_ENTRY_KINDS.some(matchesKind) ? await fastPath.observeEntries(netns, view) : [];
  return [...attached, ...entries].filter(({ kind }) => matchesKind(kind));
}

/** Sets, firewall and IPVS. In a task's netns they are the task's own, unless something there is wanted. */
async function observeServices(
  context: ObserveContext,
  netns: string,
  matchesKind: (kind: ObjectKind) => boolean,
  desired: readonly KernelObject[],
): Promise<KernelObject[]> {
  const ownHere = (...kinds: ObjectKind[]) =>
    kinds.some(matchesKind) && (!isTaskNetns(netns) || desired.some(({ kind }) => kinds.includes(kind)));
  // Lists of lists: a large one does not fit into the arguments of one push().
  const parts: KernelObject[][] = [];
  if (ownHere('ipset', 'set-member', 'set-entry')) parts.push(await observeSets(context.transport, netns, matchesKind));
  // The host's IPVS is not ours: kube-proxy or keepalived may own it.
  if (netns !== HOST_NETNS && ownHere('virtual-service', 'real-server', 'ipvs-timeouts')) {
    const genl = await context.ipvs.find();
    const timeouts = desired.some(({ kind }) => kind === 'ipvs-timeouts');
    const own = new Set(desired.flatMap((object) => (object.kind === 'address' ? [object.address] : [])));
    if (genl !== undefined) parts.push(await observeIpvs(context.transport, genl, netns, matchesKind, timeouts, own));
  }
  if (ownHere('chain', 'jump')) {
    for (const family of ['inet', 'inet6'] as const) {
      const text = await context.firewall.read(netns, family);
      const found = firewallObjects(netns, family, text, (key) => context.desired().get(key));
      parts.push(found.filter(({ kind }) => matchesKind(kind)));
    }
  }
  return parts.flat();
}
