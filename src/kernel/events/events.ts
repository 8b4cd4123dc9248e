import { sameValue } from '../../model/equality.ts';
import { type KernelObject, keyOf, type ObjectKind } from '../../model/kernel-state.ts';
import { FAST_PATH_PREFERENCE, HOST_LINKS, HOST_NETNS } from '../../model/names.ts';
import { decodeAddress } from '../../netlink/address.ts';
import { decodeLink, type Link } from '../../netlink/link.ts';
import type { NetlinkMessage } from '../../netlink/message.ts';
import { decodeFdb, decodeNeighbour, isFdb } from '../../netlink/neighbour.ts';
import {
  decodeNetconf,
  NETCONFA_IFINDEX_ALL,
  NETCONFA_IFINDEX_DEFAULT,
  RTM_NEWNETCONF,
} from '../../netlink/netconf.ts';
import { decodeRoute } from '../../netlink/route.ts';
import {
  RTM_DELADDR,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_DELQDISC,
  RTM_DELROUTE,
  RTM_DELRULE,
  RTM_DELTFILTER,
  RTM_NEWADDR,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
  RTM_NEWROUTE,
  RTM_NEWRULE,
  RTM_NEWTFILTER,
} from '../../netlink/rtnetlink.ts';
import { decodeRule } from '../../netlink/rule.ts';
import { decodeFilter, decodeQdisc, isIngress } from '../../netlink/traffic-control.ts';
import type { ObservedCache } from '../driver/observed-cache.ts';
import {
  addressObject,
  fdbObject,
  type LinkNameOf,
  neighbourObject,
  routeObject,
  ruleObject,
} from '../observe/observe-routing.ts';

/** What one rtnetlink event tells. */
export type KernelEvent =
  | { of: 'link'; name: string; link: Link; removed: boolean }
  /** An object is now so, or (undefined) is not there any more or not of our making. */
  | { of: 'object'; key: string; object: KernelObject | undefined }
  /** Something of this kind changed, we cannot tell what. */
  | { of: 'kind'; kind: ObjectKind };

/** Reads an event of a netns; nothing for what is none of our business. */
export function decodeEvents(netns: string, message: NetlinkMessage, nameOf: LinkNameOf): KernelEvent[] {
  if (message.type === RTM_NEWNETCONF) return sysctlEvents(netns, message, nameOf);
  const event = decodeEvent(netns, message, nameOf);
  return event === undefined ? [] : [event];
}

function decodeEvent(netns: string, message: NetlinkMessage, nameOf: LinkNameOf): KernelEvent | undefined {
  switch (message.type) {
    case RTM_NEWLINK:
    case RTM_DELLINK: {
      const link = decodeLink(message);
      if (!link.ok || (netns === HOST_NETNS && !HOST_LINKS.includes(link.value.name))) return undefined;
      return { of: 'link', name: link.value.name, link: link.value, removed: message.type === RTM_DELLINK };
    }
    case RTM_NEWADDR:
    case RTM_DELADDR: {
      const entry = decodeAddress(message);
      if (!entry.ok) return undefined;
      const { index, address, prefix } = entry.value;
      const key = (dev: string) => keyOf({ kind: 'address', netns, dev, address, prefix });
      return objectEvent(netns, 'address', index, nameOf, key, () =>
        message.type === RTM_DELADDR ? undefined : addressObject(netns, entry.value, nameOf),
      );
    }
    case RTM_NEWNEIGH:
    case RTM_DELNEIGH: {
      const gone = message.type === RTM_DELNEIGH;
      if (isFdb(message)) {
        const entry = decodeFdb(message);
        if (!entry.ok) return undefined;
        // Some kernels (6.1) tell each change twice, the second time without where it leads (rtnl_fdb_notify).
        if (entry.value.dst === undefined) return undefined;
        const { index, mac } = entry.value;
        const key = (dev: string) => keyOf({ kind: 'fdb', netns, dev, mac, dst: '' });
        return objectEvent(netns, 'fdb', index, nameOf, key, () =>
          gone ? undefined : fdbObject(netns, entry.value, nameOf),
        );
      }
      const entry = decodeNeighbour(message);
      if (!entry.ok) return undefined;
      const { index, address } = entry.value;
      const key = (dev: string) => keyOf({ kind: 'neighbour', netns, dev, address, mac: '' });
      return objectEvent(netns, 'neighbour', index, nameOf, key, () =>
        gone ? undefined : neighbourObject(netns, entry.value, nameOf),
      );
    }
    case RTM_NEWROUTE:
    case RTM_DELROUTE: {
      const entry = decodeRoute(message);
      if (!entry.ok || entry.value.cloned) return undefined;
      const object = routeObject(netns, entry.value, nameOf);
      const { destination, table } = entry.value;
      const key = `route ${netns} ${table} ${destination}`;
      return { of: 'object', key, object: message.type === RTM_DELROUTE ? undefined : object };
    }
    case RTM_NEWRULE:
    case RTM_DELRULE: {
      const entry = decodeRule(message);
      if (!entry.ok) return undefined;
      const object = ruleObject(netns, entry.value);
      return object && { of: 'object', key: keyOf(object), object: message.type === RTM_DELRULE ? undefined : object };
    }
    case RTM_NEWTFILTER:
    case RTM_DELTFILTER: {
      const filter = decodeFilter(message);
      // All filters of a link may go at once: the event names none then.
      const ours = filter.ok && [0, FAST_PATH_PREFERENCE].includes(filter.value.preference);
      return ours ? { of: 'kind', kind: 'fast-path' } : undefined;
    }
    case RTM_DELQDISC: {
      const qdisc = decodeQdisc(message);
      return qdisc.ok && isIngress(qdisc.value) ? { of: 'kind', kind: 'fast-path' } : undefined;
    }
    default:
      return undefined;
  }
}

/** Whether an event is about filters or what they are on. */
export function isTrafficControl({ type }: NetlinkMessage): boolean {
  return [RTM_NEWTFILTER, RTM_DELTFILTER, RTM_DELQDISC].includes(type);
}

/** The switches an event is about, under every name they go by. */
function sysctlEvents(netns: string, message: NetlinkMessage, nameOf: LinkNameOf): KernelEvent[] {
  const read = decodeNetconf(message);
  if (!read.ok) return [];
  const { family, index, forwarding, rpFilter } = read.value;
  const version = family === 'inet' ? 'ipv4' : 'ipv6';
  const dev = index === NETCONFA_IFINDEX_ALL ? 'all' : index === NETCONFA_IFINDEX_DEFAULT ? 'default' : nameOf(index);
  if (dev === undefined) return [];
  const found: [string, number | undefined][] = [
    [`net.${version}.conf.${dev.replaceAll('.', '/')}.forwarding`, forwarding],
    [`net.${version}.conf.${dev.replaceAll('.', '/')}.rp_filter`, rpFilter],
    ...(family === 'inet' && dev === 'all'
      ? [['net.ipv4.ip_forward', forwarding] as [string, number | undefined]]
      : []),
  ];
  return found.flatMap(([name, value]) => {
    if (value === undefined) return [];
    const object: KernelObject = { kind: 'sysctl', netns, name, value: String(value) };
    return [{ of: 'object', key: keyOf(object), object }];
  });
}

function objectEvent(
  netns: string,
  kind: ObjectKind,
  index: number,
  nameOf: LinkNameOf,
  key: (dev: string) => string,
  read: () => KernelObject | undefined,
): KernelEvent | undefined {
  const dev = nameOf(index);
  if (dev !== undefined) return { of: 'object', key: key(dev), object: read() };
  return netns === HOST_NETNS ? undefined : { of: 'kind', kind };
}

/** Whether an object event tells something that is not known. */
export function isObjectChange(cache: ObservedCache, event: KernelEvent & { of: 'object' }): boolean {
  const before = cache.get(event.key);
  // Of sysctls only those that were looked at are anybody's business.
  if (event.object?.kind === 'sysctl' && before === undefined) return false;
  return !sameValue(before, event.object);
}

/** What a link has to be for nobody to be woken: the end of a known pair, a known vxlan, or lo. */
export interface ObservedLink {
  /** Netns the object belongs to; for the far end of a pair not its own. */
  netns: string;
  mtu: number;
  up: boolean;
  mac?: string;
}

/** Known links by `netns name`. */
export function observedLinks(cache: ObservedCache): Map<string, ObservedLink> {
  const links = new Map<string, ObservedLink>();
  for (const object of cache.values()) {
    const { netns } = object;
    if (object.kind === 'veth') {
      const { name, mtu, up, peer } = object;
      links.set(`${netns} ${name}`, { netns, mtu, up });
      links.set(`${peer.netns} ${peer.name}`, { netns, mtu: peer.mtu, up: peer.up });
    } else if (object.kind === 'vxlan') {
      links.set(`${netns} ${object.name}`, { netns, mtu: object.mtu, up: object.up, mac: object.mac });
    }
  }
  return links;
}

/** Whether a link event tells something that is not known; links of kinds we never make are nobody's business. */
export function isLinkChange(
  netns: string,
  event: KernelEvent & { of: 'link' },
  cache: ObservedCache,
  link: ObservedLink | undefined,
): boolean {
  const { up, mtu, mac, kind, index } = event.link;
  if (index === 1) {
    const self = cache.get(keyOf({ kind: 'netns', netns, loopbackUp: true }));
    return self?.kind === 'netns' && self.loopbackUp !== up;
  }
  if (link === undefined) return !event.removed && (kind === 'veth' || kind === 'vxlan');
  if (event.removed) return true;
  return link.up !== up || link.mtu !== mtu || (link.mac !== undefined && link.mac !== mac);
}
