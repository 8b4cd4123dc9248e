import { stateOf } from '../../model/kernel-state.ts';
import type { KernelObject, ObjectKind } from '../../model/kinds/registry.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import { coversKind, type Scope } from '../kernel.ts';
import { allKinds, LINUX_KINDS, linksOf } from '../kinds/registry.ts';
import { createLinkView } from './observe-links.ts';
import type { NetnsScan, ObserveContext, Observer } from './observer.ts';

/** Everything of ours in the scope. A netns that is removed meanwhile counts as absent. */
export async function observe(context: ObserveContext, scope: Scope): Promise<Map<string, KernelObject>> {
  const kinds = allKinds().filter((kind) => coversKind(scope, kind));
  const observers = [...new Set(kinds.map((kind) => LINUX_KINDS[kind].observer))];
  const includes = (kind: ObjectKind) => coversKind(scope, kind);
  const all = [HOST_NETNS, ...context.namespaces.list()];
  const selected = scope.netns === undefined ? all : all.filter((netns) => scope.netns?.includes(netns));
  const view = createLinkView(context.transport, context.namespaces);
  const desired = groupByNetns(context.desired().values());
  let ownNames: ReadonlyMap<string, ReadonlySet<string>> | undefined;
  const lists = await Promise.all(
    selected.map((netns) => {
      const scan: NetnsScan = {
        ...context,
        netns,
        view,
        includes,
        desiredHere: desired.get(netns) ?? [],
        ownLinkNames() {
          ownNames ??= linkNames(context.desired().values());
          return ownNames.get(netns) ?? new Set();
        },
      };
      return observeNetns(scan, observers);
    }),
  );
  return stateOf(lists.flat(2));
}

async function observeNetns(scan: NetnsScan, observers: readonly Observer[]): Promise<(readonly KernelObject[])[]> {
  const { namespaces, netns } = scan;
  const identity = namespaces.identity(netns);
  try {
    return await Promise.all(observers.map((observer) => observer(scan)));
  } catch (thrown) {
    const now = namespaces.identity(netns);
    if (now === undefined || now !== identity) return [];
    throw thrown;
  }
}

function groupByNetns(objects: Iterable<KernelObject>): Map<string, KernelObject[]> {
  const groups = new Map<string, KernelObject[]>();
  for (const object of objects) {
    const group = groups.get(object.netns);
    if (group) group.push(object);
    else groups.set(object.netns, [object]);
  }
  return groups;
}

/** Names that our links have, by netns. */
function linkNames(desired: Iterable<KernelObject>): Map<string, Set<string>> {
  const names = new Map<string, Set<string>>();
  for (const object of desired) {
    for (const { netns, name } of linksOf(object)) {
      const known = names.get(netns);
      if (known) known.add(name);
      else names.set(netns, new Set([name]));
    }
  }
  return names;
}
