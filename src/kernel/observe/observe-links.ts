import { closeSync } from 'node:fs';
import { openNetns } from '../../../native/index.ts';
import type { Netns } from '../../model/kinds/netns.ts';
import type { VethPair } from '../../model/kinds/veth.ts';
import type { Vxlan } from '../../model/kinds/vxlan.ts';
import { HOST_LINKS, HOST_NETNS } from '../../model/linux-names.ts';
import { decodeLink, dumpLinks, getLink, type Link } from '../../netlink/link.ts';
import { decodeNetnsId, getNetnsId } from '../../netlink/netns-id.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { isOurNetns, isTaskNetns, type Namespaces, netnsDepth } from '../driver/namespaces.ts';
import { NETLINK_ROUTE, type Transport } from '../driver/transport.ts';

/** Placeholder for a netns or link that is not ours or was removed during the scan. */
const UNKNOWN = 'unknown';
/** Of one scan; several may run at a time. */
const MAX_OPEN_DESCRIPTORS = 64;

/** Name of a link by its ifindex; undefined for links that are not ours. */
export type LinkNameOf = (index: number) => string | undefined;

/** Links of every netns in one observation; each netns is listed once. */
export interface LinkView {
  /** All links of a netns of ours; of the host only those that are ours. */
  linksOf(netns: string): Promise<readonly Link[]>;
  /** Names of these links by ifindex. */
  linkNameOf(netns: string): Promise<LinkNameOf>;
  /** Veth pairs that belong to this netns and its vxlan devices. */
  devicesOf(netns: string): Promise<(VethPair | Vxlan)[]>;
  /** Links of types that meshd never makes, under names that ours have: as a vxlan with `foreign`. */
  foreignLinksOf(netns: string, names: ReadonlySet<string>): Promise<Vxlan[]>;
  netnsOf(netns: string): Promise<Netns>;
}

export function createLinkView(transport: Transport, namespaces: Namespaces): LinkView {
  const links = new Map<string, Promise<readonly Link[]>>();
  const names = new Map<string, Promise<LinkNameOf>>();
  const ids = new Map<string, Promise<Map<number, string>>>();
  let groups: string[][] | undefined;

  /** Nearly all pairs have an end in one of the few namespaces that belong to no task, so those are tried first. */
  function netnsGroups(): string[][] {
    if (groups === undefined) {
      const all = [HOST_NETNS, ...namespaces.list()];
      groups = [all.filter((netns) => !isTaskNetns(netns)), all.filter(isTaskNetns)];
    }
    return groups;
  }

  function linksOf(netns: string): Promise<readonly Link[]> {
    return memoize(links, netns, () => readLinks(transport, netns));
  }

  async function peerNetnsOf(netns: string, link: Link): Promise<string> {
    const { linkNetnsId } = link;
    if (linkNetnsId === undefined) return netns;
    for (const [round, others] of netnsGroups().entries()) {
      const known = await memoize(ids, `${netns} ${round}`, () => readNetnsIds(transport, namespaces, netns, others));
      const found = known.get(linkNetnsId);
      if (found !== undefined) return found;
    }
    return UNKNOWN;
  }

  async function pairOf(netns: string, link: Link): Promise<VethPair | undefined> {
    const other = await peerNetnsOf(netns, link);
    // linksOf leaves out links of the host that are not ours: their names stay unknown.
    const peer = other === UNKNOWN ? undefined : (await linksOf(other)).find(({ index }) => index === link.linkIndex);
    if (peer && !isOwningEnd(netns, link.name, other, peer.name)) return undefined;
    return {
      kind: 'veth',
      netns,
      name: link.name,
      mtu: link.mtu ?? 0,
      up: link.up,
      peer: { netns: other, name: peer?.name ?? UNKNOWN, mtu: peer?.mtu ?? 0, up: peer?.up ?? false },
    };
  }

  async function vxlanOf(netns: string, link: Link): Promise<Vxlan> {
    const { vxlan } = link;
    return {
      kind: 'vxlan',
      netns,
      name: link.name,
      underlayNetns: await peerNetnsOf(netns, link),
      vni: vxlan?.vni ?? 0,
      local: vxlan?.local ?? UNKNOWN,
      port: vxlan?.port ?? 0,
      mac: link.mac ?? UNKNOWN,
      mtu: link.mtu ?? 0,
      up: link.up,
      gbp: vxlan?.gbp ?? false,
      learning: vxlan?.learning ?? false,
    };
  }

  async function readLinkNames(netns: string): Promise<LinkNameOf> {
    const byIndex = new Map((await linksOf(netns)).map(({ index, name }) => [index, name]));
    return (index) => byIndex.get(index);
  }

  return {
    linksOf,
    linkNameOf: (netns) => memoize(names, netns, () => readLinkNames(netns)),
    async devicesOf(netns) {
      const devices: (VethPair | Vxlan)[] = [];
      for (const link of await linksOf(netns)) {
        const device =
          link.kind === 'veth'
            ? await pairOf(netns, link)
            : link.kind === 'vxlan'
              ? await vxlanOf(netns, link)
              : undefined;
        if (device) devices.push(device);
      }
      return devices;
    },
    async foreignLinksOf(netns, ownNames) {
      const links = (await linksOf(netns)).filter(
        ({ kind, name }) => kind !== 'veth' && kind !== 'vxlan' && ownNames.has(name),
      );
      return Promise.all(
        links.map(async (link) => ({ ...(await vxlanOf(netns, link)), foreign: [`type ${link.kind ?? 'unknown'}`] })),
      );
    },
    async netnsOf(netns) {
      const loopback = (await linksOf(netns)).find(({ index }) => index === 1);
      return { kind: 'netns', netns, loopbackUp: loopback?.up ?? false };
    },
  };
}

/** Whether a pair is named after the first end: the one nearer to the host, or the first by name. */
export function isOwningEnd(netns: string, name: string, otherNetns: string, otherName: string): boolean {
  const difference = netnsDepth(netns) - netnsDepth(otherNetns);
  return difference === 0 ? `${netns} ${name}` < `${otherNetns} ${otherName}` : difference < 0;
}

async function readLinks(transport: Transport, netns: string): Promise<readonly Link[]> {
  if (isOurNetns(netns)) return decodeAll(await transport.dump(netns, NETLINK_ROUTE, dumpLinks()), decodeLink);
  if (netns !== HOST_NETNS) return [];
  const requests = HOST_LINKS.map((name) => getLink({ name }));
  const outcomes = await transport.transact(netns, NETLINK_ROUTE, requests);
  return outcomes.flatMap((outcome) => (outcome.ok ? decodeAll(outcome.replies, decodeLink) : []));
}

/** Other namespaces by the ids that this one has for them. */
async function readNetnsIds(
  transport: Transport,
  namespaces: Namespaces,
  netns: string,
  others: readonly string[],
): Promise<Map<number, string>> {
  const ids = new Map<number, string>();
  const rest = others.filter((name) => name !== netns);
  for (let from = 0; from < rest.length; from += MAX_OPEN_DESCRIPTORS) {
    const open = openNamespaceFiles(namespaces, rest.slice(from, from + MAX_OPEN_DESCRIPTORS));
    try {
      const requests = open.map(({ fd }) => getNetnsId({ fd }));
      const outcomes = await transport.transact(netns, NETLINK_ROUTE, requests);
      open.forEach(({ name }, index) => {
        const outcome = outcomes[index];
        const [answer] = outcome?.ok ? decodeAll(outcome.replies, decodeNetnsId) : [];
        if (answer && answer.id >= 0) ids.set(answer.id, name);
      });
    } finally {
      for (const { fd } of open) closeSync(fd);
    }
  }
  return ids;
}

/** Leaves out namespaces that no longer exist. */
function openNamespaceFiles(namespaces: Namespaces, names: readonly string[]): { name: string; fd: number }[] {
  const open: { name: string; fd: number }[] = [];
  for (const name of names) {
    try {
      open.push({ name, fd: openNetns(namespaces.path(name)) });
    } catch (thrown) {
      if (namespaces.identity(name) === undefined) continue;
      for (const { fd } of open) closeSync(fd);
      throw thrown;
    }
  }
  return open;
}

function memoize<T>(memory: Map<string, Promise<T>>, key: string, read: () => Promise<T>): Promise<T> {
  const known = memory.get(key);
  if (known) return known;
  const started = read();
  memory.set(key, started);
  return started;
}
