import { HOST_LINKS, HOST_NETNS } from '../../model/linux-names.ts';
import { decodeLink } from '../../netlink/link.ts';
import { RTM_DELLINK, RTM_NEWLINK, RTNLGRP } from '../../netlink/rtnetlink.ts';
import type { Observer } from '../observe/observer.ts';
import type { RouteEvents } from './kind.ts';

/** Lists veth pairs and vxlan devices, and links of other types under names that ours have. */
export const observeLinks: Observer = async ({ view, netns, includes, ownLinkNames }) => {
  const devices = (await view.devicesOf(netns)).filter(({ kind }) => includes(kind));
  return [...devices, ...(await view.foreignLinksOf(netns, ownLinkNames()))];
};

/** A link event says what a netns (by its loopback), a veth pair (by one of its ends) or a vxlan device is now. */
export const LINK_EVENTS: RouteEvents = {
  source: 'rtnetlink',
  groups: [RTNLGRP.link],
  inHost: true,
  types: [RTM_NEWLINK, RTM_DELLINK],
  complete: true,
  decode(netns, message) {
    const link = decodeLink(message);
    if (!link.ok || (netns === HOST_NETNS && !HOST_LINKS.includes(link.value.name))) return [];
    return [{ of: 'link', name: link.value.name, link: link.value, removed: message.type === RTM_DELLINK }];
  },
};
