import type { Result } from '../base/errors.ts';
import type { Family } from '../model/address.ts';
import { Attributes, decodeError } from './attributes.ts';
import { AF_INET, AF_INET6 } from './ip.ts';
import type { NetlinkMessage } from './message.ts';
import { decodeWithHeader } from './rtnetlink.ts';

// include/uapi/linux/rtnetlink.h and netconf.h
export const RTM_NEWNETCONF = 80;
const NETCONFA_IFINDEX = 1;
const NETCONFA_FORWARDING = 2;
const NETCONFA_RP_FILTER = 3;
/** `all` and `default` instead of a link. */
export const NETCONFA_IFINDEX_ALL = -1;
export const NETCONFA_IFINDEX_DEFAULT = -2;
/** sizeof(struct netconfmsg): the family alone. */
const NETCONFMSG = 4;

/** Changed settings below net.ipv4.conf or net.ipv6.conf; fields of unchanged ones are undefined. */
export interface Netconf {
  family: Family;
  /** ifindex, or one of NETCONFA_IFINDEX_*. */
  index: number;
  forwarding: number | undefined;
  rpFilter: number | undefined;
}

/** Reads RTM_NEWNETCONF, the message of the groups ipv4Netconf and ipv6Netconf (inet_netconf_notify_devconf). */
export function decodeNetconf(message: NetlinkMessage): Result<Netconf> {
  return decodeWithHeader('netconf', [RTM_NEWNETCONF], NETCONFMSG, message, (view, payload) => {
    const attributes = new Attributes(payload, NETCONFMSG);
    const family = view.getUint8(0);
    const index = attributes.i32(NETCONFA_IFINDEX);
    if (family !== AF_INET && family !== AF_INET6) throw decodeError(`address family ${family}`);
    if (index === undefined) throw decodeError('no link in it');
    return {
      family: family === AF_INET ? 'inet' : 'inet6',
      index,
      forwarding: attributes.i32(NETCONFA_FORWARDING),
      rpFilter: attributes.i32(NETCONFA_RP_FILTER),
    };
  });
}
