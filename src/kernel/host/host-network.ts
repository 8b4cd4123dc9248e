import { openNetlink } from '../../../native/index.ts';
import type { IpAddress } from '../../model/address.ts';
import { HOST_LINKS, HOST_NETNS, ROUTE_PROTOCOL } from '../../model/linux-names.ts';
import { decodeAddress, dumpAddresses, IFA_F_DADFAILED } from '../../netlink/address.ts';
import { decodeLink, dumpLinks, getLink, type Link } from '../../netlink/link.ts';
import { decodeMessages, type NetlinkMessage } from '../../netlink/message.ts';
import { decodeRoute, dumpRoutes, getRoute, type RouteEntry } from '../../netlink/route.ts';
import { RTM_DELROUTE, RTM_NEWROUTE, RTNLGRP } from '../../netlink/rtnetlink.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { type Namespaces, openNamespaces } from '../driver/namespaces.ts';
import { NETLINK_ROUTE, openTransport, type Transport } from '../driver/transport.ts';
import {
  type HostAddress,
  type HostNetwork,
  type HostNetworkChange,
  type HostPath,
  type HostRoute,
  zeroCounters,
} from '../kernel.ts';

/** RT_TABLE_LOCAL, include/uapi/linux/rtnetlink.h */
const LOCAL_TABLE = 255;
/** include/uapi/linux/if.h */
const IFF_RUNNING = 0x40;
const IFF_NOARP = 0x80;
const MAC = /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/;
const NO_MAC = '00:00:00:00:00:00';
const GROUPS = [
  RTNLGRP.link,
  RTNLGRP.ipv4Address,
  RTNLGRP.ipv6Address,
  RTNLGRP.ipv4Route,
  RTNLGRP.ipv6Route,
  RTNLGRP.ipv4Rule,
  RTNLGRP.ipv6Rule,
];

/** Every address of the host, for a process that has no kernel open. */
export async function readHostAddresses(): Promise<HostAddress[]> {
  const namespaces = openNamespaces('/run/netns');
  const transport = openTransport(namespaces, zeroCounters());
  try {
    return await createHostNetwork(transport, namespaces).addresses();
  } finally {
    transport.close();
  }
}

export function createHostNetwork(transport: Transport, namespaces: Namespaces): HostNetwork {
  const dump = (request: Parameters<Transport['dump']>[2]) => transport.dump(HOST_NETNS, NETLINK_ROUTE, request);

  async function listLinks(): Promise<Map<number, Link>> {
    return new Map(decodeAll(await dump(dumpLinks()), decodeLink).map((link) => [link.index, link]));
  }

  return {
    async addresses() {
      const links = await listLinks();
      const entries = decodeAll(await dump(dumpAddresses()), decodeAddress);
      return entries.flatMap(({ index, address, prefix, flags }): HostAddress[] => {
        const link = links.get(index);
        if (!link?.up || (flags & IFA_F_DADFAILED) !== 0) return [];
        return [{ link: link.name, mtu: link.mtu ?? 0, ethernet: isEthernet(link), address, prefix }];
      });
    },
    async routes() {
      const links = await listLinks();
      const found: HostRoute[] = [];
      for (const family of ['inet', 'inet6'] as const) {
        for (const entry of decodeAll(await dump(dumpRoutes({ family })), decodeRoute)) {
          const link = links.get(entry.index ?? 0)?.name;
          if (link === undefined || !isForeignRoute(entry) || HOST_LINKS.includes(link)) continue;
          found.push({ link, destination: entry.destination, via: entry.via });
        }
      }
      return found;
    },
    paths: (source, destinations) => findPaths(transport, source, destinations),
    watch(onChange) {
      const netns = namespaces.path(HOST_NETNS);
      const socket = openNetlink({ netns, protocol: NETLINK_ROUTE, groups: GROUPS }, (event) => {
        if (event.type !== 'data') return onChange({ of: 'unknown' });
        for (const datagram of event.messages) {
          const decoded = decodeMessages(datagram);
          if (!decoded.ok) onChange({ of: 'unknown' });
          else for (const message of decoded.value) reportChange(message, onChange);
        }
      });
      socket.unref();
      return () => socket.close();
    },
  };
}

/** A dummy link has a MAC address, but receives nothing, so it does not resolve addresses (drivers/net/dummy.c). */
function isEthernet({ flags, mac }: Link): boolean {
  return mac !== undefined && MAC.test(mac) && mac !== NO_MAC && (flags & IFF_NOARP) === 0;
}

function reportChange(message: NetlinkMessage, onChange: (change: HostNetworkChange) => void): void {
  if (message.type !== RTM_NEWROUTE && message.type !== RTM_DELROUTE) {
    onChange({ of: 'addresses' });
    return;
  }
  const route = decodeRoute(message);
  if (!route.ok) return; // of another family
  if (isForeignRoute(route.value)) onChange({ of: 'route', destination: route.value.destination });
}

/** Whether a route of another program leads somewhere; those of the table `local` follow from addresses. */
function isForeignRoute({ protocol, table, type, cloned }: RouteEntry): boolean {
  return protocol !== ROUTE_PROTOCOL && table !== LOCAL_TABLE && type === 'unicast' && !cloned;
}

async function findPaths(
  transport: Transport,
  source: IpAddress,
  destinations: readonly IpAddress[],
): Promise<Map<IpAddress, HostPath>> {
  const requests = destinations.map((destination) => getRoute({ source, destination }));
  const outcomes = await transport.transact(HOST_NETNS, NETLINK_ROUTE, requests);
  const routes = new Map<IpAddress, RouteEntry>();
  for (const [place, destination] of destinations.entries()) {
    const outcome = outcomes[place];
    const [route] = outcome?.ok ? decodeAll(outcome.replies, decodeRoute) : [];
    if (route?.index !== undefined && route.type === 'unicast') routes.set(destination, route);
  }
  const links = await readLinks(transport, new Set([...routes.values()].map(({ index }) => index!)));
  const paths = new Map<IpAddress, HostPath>();
  for (const [destination, { index, mtu: routeMtu, nextHops }] of routes) {
    const link = links.get(index!);
    const mtu = routeMtu ?? link?.mtu;
    if (link === undefined || mtu === undefined) continue;
    // Of several next hops, this is one; another may do.
    const carrier = nextHops > 1 || (link.flags & IFF_RUNNING) !== 0;
    paths.set(destination, { link: link.name, mtu, carrier });
  }
  return paths;
}

async function readLinks(transport: Transport, indices: ReadonlySet<number>): Promise<Map<number, Link>> {
  const requests = [...indices].map((index) => getLink({ index }));
  const outcomes = await transport.transact(HOST_NETNS, NETLINK_ROUTE, requests);
  const links = outcomes.flatMap((outcome) => (outcome.ok ? decodeAll(outcome.replies, decodeLink) : []));
  return new Map(links.map((link) => [link.index, link]));
}
