import { keyOf } from '../../model/kernel-state.ts';
import type { KernelObject } from '../../model/kinds/registry.ts';
import {
  decodeNetconf,
  NETCONFA_IFINDEX_ALL,
  NETCONFA_IFINDEX_DEFAULT,
  RTM_NEWNETCONF,
} from '../../netlink/netconf.ts';
import { RTNLGRP } from '../../netlink/rtnetlink.ts';
import type { Observer } from '../observe/observer.ts';
import { readSysctls } from '../observe/sysctl.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { linkName, netnsNames } from './kernel-rules.ts';
import type { LinuxKind, OpOf, RouteEvents } from './kind.ts';

const observeSysctls: Observer = async ({ namespaces, netns, desiredHere }) => {
  const names = desiredHere.flatMap((object) => (object.kind === 'sysctl' ? [object.name] : []));
  const values = readSysctls(namespaces.path(netns), names);
  return [...values].map(([name, value]) => ({ kind: 'sysctl' as const, netns, name, value }));
};

/** The kernel announces forwarding and rp_filter alone, under one number for all names they have. */
const NETCONF_EVENTS: RouteEvents = {
  source: 'rtnetlink',
  groups: [RTNLGRP.ipv4Netconf, RTNLGRP.ipv6Netconf],
  inHost: true,
  types: [RTM_NEWNETCONF],
  complete: false,
  decode(netns, message, nameOf) {
    const record = decodeNetconf(message);
    if (!record.ok) return [];
    const { family, index, forwarding, rpFilter } = record.value;
    const version = family === 'inet' ? 'ipv4' : 'ipv6';
    const dev = index === NETCONFA_IFINDEX_ALL ? 'all' : index === NETCONFA_IFINDEX_DEFAULT ? 'default' : nameOf(index);
    if (dev === undefined) return [];
    const settings: [string, number | undefined][] = [
      [`net.${version}.conf.${dev.replaceAll('.', '/')}.forwarding`, forwarding],
      [`net.${version}.conf.${dev.replaceAll('.', '/')}.rp_filter`, rpFilter],
    ];
    if (family === 'inet' && dev === 'all') settings.push(['net.ipv4.ip_forward', forwarding]);
    return settings.flatMap(([name, value]) => {
      if (value === undefined) return [];
      const object: KernelObject = { kind: 'sysctl', netns, name, value: String(value) };
      return [{ of: 'object' as const, kind: 'sysctl' as const, key: keyOf(object), object }];
    });
  },
};

/** A setting under /proc/sys/net. */
export const sysctlKind: LinuxKind<'sysctl'> = {
  steps({ verb, object }: OpOf<'sysctl'>) {
    // The value from before meshd set it is not known.
    return verb === 'delete'
      ? []
      : [{ backend: 'sysctl', netns: object.netns, name: object.name, value: object.value }];
  },
  observer: observeSysctls,
  events: NETCONF_EVENTS,
  audit: 'costly',
  related: ['link'],
  failures: ERRNO_CODES,
  rules: {
    setting: true,
    livesIn({ netns, name }) {
      const dev = /^net\.ipv[46]\.(?:conf|neigh)\.([^.]+)\./.exec(name)?.[1];
      const ofLink = dev !== undefined && dev !== 'all' && dev !== 'default';
      return ofLink ? [...netnsNames(netns), linkName(netns, dev.replaceAll('/', '.'))] : netnsNames(netns);
    },
  },
};
