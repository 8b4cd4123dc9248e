import { type KernelObject, type ObjectKind, stateOf } from '../model/kernel-state.ts';
import { HOST_NETNS } from '../model/names.ts';
import type { Firewall } from './firewall.ts';
import { firewallObjects } from './firewall-text.ts';
import { type IpvsFamily, observeIpvs } from './ipvs.ts';
import { asksFor, type Scope } from './kernel.ts';
import { isOurNetns, isTaskNetns, type Namespaces } from './namespaces.ts';
import { type LinkView, viewLinks } from './observe-links.ts';
import { observeRouting } from './observe-routing.ts';
import { observeSets } from './observe-sets.ts';
import type { Shortcuts } from './shortcuts.ts';
import { readSysctls } from './sysctl.ts';
import type { Transport } from './transport.ts';

/** What looking needs; `wanted` tells which sysctls and timeouts matter, and where jumps are meant to be. */
export interface Eyes {
  transport: Transport;
  namespaces: Namespaces;
  firewall: Firewall;
  ipvs: IpvsFamily;
  shortcuts: Shortcuts;
  wanted(): ReadonlyMap<string, KernelObject>;
}

/** What the shortcut's maps hold. */
const ENTRIES: readonly ObjectKind[] = ['shortcut-task', 'shortcut-port', 'shortcut-peer'];
const SHORTCUTS: readonly ObjectKind[] = ['shortcut', ...ENTRIES];
const ON_LINKS: readonly ObjectKind[] = ['address', 'neighbour', 'fdb', 'route', 'rule'];

/** Everything of ours in the scope. A netns that goes away meanwhile is not there. */
export async function observe(eyes: Eyes, scope: Scope): Promise<Map<string, KernelObject>> {
  const wants = (kind: ObjectKind) => asksFor(scope, kind);
  const all = [HOST_NETNS, ...eyes.namespaces.list()];
  const asked = scope.netns === undefined ? all : all.filter((netns) => scope.netns?.includes(netns));
  const view = viewLinks(eyes.transport, eyes.namespaces);
  const wanted = new Map<string, KernelObject[]>();
  for (const object of eyes.wanted().values()) {
    const list = wanted.get(object.netns);
    if (list) list.push(object);
    else wanted.set(object.netns, [object]);
  }
  const names = wants('veth') || wants('vxlan') ? linkNames(eyes.wanted().values()) : new Map<string, Set<string>>();
  const lists = await Promise.all(
    asked.map((netns) => lookInto(eyes, view, netns, wants, wanted.get(netns) ?? [], names.get(netns) ?? new Set())),
  );
  return stateOf(lists.flat());
}

async function lookInto(
  eyes: Eyes,
  view: LinkView,
  netns: string,
  wants: (kind: ObjectKind) => boolean,
  wanted: readonly KernelObject[],
  names: ReadonlySet<string>,
): Promise<KernelObject[]> {
  const identity = eyes.namespaces.identity(netns);
  try {
    const parts = await Promise.all([
      lookAtLinks(eyes, view, netns, wants, names),
      wants('sysctl') ? lookAtSysctls(eyes, netns, wanted) : [],
      lookAtServices(eyes, netns, wants, wanted),
      lookAtShortcuts(eyes, view, netns, wants, wanted),
    ]);
    return parts.flat();
  } catch (thrown) {
    const now = eyes.namespaces.identity(netns);
    if (now === undefined || now !== identity) return [];
    throw thrown;
  }
}

async function lookAtLinks(
  eyes: Eyes,
  view: LinkView,
  netns: string,
  wants: (kind: ObjectKind) => boolean,
  names: ReadonlySet<string>,
): Promise<KernelObject[]> {
  const objects: KernelObject[] = [];
  if (wants('netns') && isOurNetns(netns)) objects.push(await view.netnsOf(netns));
  if (wants('veth') || wants('vxlan')) {
    objects.push(...(await view.devicesOf(netns)).filter(({ kind }) => wants(kind)));
    objects.push(...(await view.strangersOf(netns, names)));
  }
  if (ON_LINKS.some(wants)) {
    objects.push(...(await observeRouting(eyes.transport, netns, await view.linksOf(netns), wants)));
  }
  return objects;
}

/** Names that links of ours have, by netns. */
function linkNames(wanted: Iterable<KernelObject>): Map<string, Set<string>> {
  const names = new Map<string, Set<string>>();
  const add = ({ netns, name }: { netns: string; name: string }) => {
    const known = names.get(netns);
    if (known) known.add(name);
    else names.set(netns, new Set([name]));
  };
  for (const object of wanted) {
    if (object.kind === 'veth' || object.kind === 'vxlan') add(object);
    if (object.kind === 'veth') add(object.peer);
  }
  return names;
}

function lookAtSysctls(eyes: Eyes, netns: string, wanted: readonly KernelObject[]): KernelObject[] {
  const names = wanted.flatMap((object) => (object.kind === 'sysctl' ? [object.name] : []));
  const values = readSysctls(eyes.namespaces.path(netns), names);
  return [...values].map(([name, value]) => ({ kind: 'sysctl', netns, name, value }));
}

/** What is attached in a task's netns is the task's own. */
async function lookAtShortcuts(
  { shortcuts }: Eyes,
  view: LinkView,
  netns: string,
  wants: (kind: ObjectKind) => boolean,
  wanted: readonly KernelObject[],
): Promise<KernelObject[]> {
  if (isTaskNetns(netns) || !SHORTCUTS.some(wants)) return [];
  // Which maps are the node's is told by what is attached, so that is looked at even when only they are asked for.
  const attached = await shortcuts.attached(netns, wanted);
  const entries = ENTRIES.some(wants) ? await shortcuts.entries(netns, view) : [];
  return [...attached, ...entries].filter(({ kind }) => wants(kind));
}

/** Sets, firewall and IPVS. In a task's netns they are the task's own, unless something there is wanted. */
async function lookAtServices(
  eyes: Eyes,
  netns: string,
  wants: (kind: ObjectKind) => boolean,
  wanted: readonly KernelObject[],
): Promise<KernelObject[]> {
  const ownHere = (...kinds: ObjectKind[]) =>
    kinds.some(wants) && (!isTaskNetns(netns) || wanted.some(({ kind }) => kinds.includes(kind)));
  // Lists of lists: a large one does not fit into the arguments of one push().
  const parts: KernelObject[][] = [];
  if (ownHere('ipset', 'set-member', 'set-entry')) parts.push(await observeSets(eyes.transport, netns, wants));
  // The host's IPVS is not ours: kube-proxy or keepalived may own it.
  if (netns !== HOST_NETNS && ownHere('virtual-service', 'real-server', 'ipvs-timeouts')) {
    const genl = await eyes.ipvs.find();
    const timeouts = wanted.some(({ kind }) => kind === 'ipvs-timeouts');
    const own = new Set(wanted.flatMap((object) => (object.kind === 'address' ? [object.address] : [])));
    if (genl !== undefined) parts.push(await observeIpvs(eyes.transport, genl, netns, wants, timeouts, own));
  }
  if (ownHere('chain', 'jump')) {
    for (const family of ['inet', 'inet6'] as const) {
      const text = await eyes.firewall.read(netns, family);
      const found = firewallObjects(netns, family, text, (key) => eyes.wanted().get(key));
      parts.push(found.filter(({ kind }) => wants(kind)));
    }
  }
  return parts.flat();
}
