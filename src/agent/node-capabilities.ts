import { existsSync } from 'node:fs';
import { release } from 'node:os';
import type { Log } from '../base/log.ts';
import type { IpAddress } from '../model/address.ts';
import type { FastPath, NodeCapabilities } from '../plan/context.ts';
import { findUnderlayLink } from './underlay-link.ts';

const ETHERNET_MTU = 1_500;

/** Where the fast path is used: not at all, inside our own namespaces, or from the underlay interface on. */
export const FAST_PATH_MODES = ['off', 'inside', 'full'] as const;
export type FastPathMode = (typeof FAST_PATH_MODES)[number];

/**
 * Detects what a plan needs to know about this machine. Which schedulers its kernel has, and whether it supports the
 * requested fast path, was probed by src/kernel.
 */
export function detectCapabilities(
  underlay: IpAddress,
  schedulers: readonly string[],
  fastPath: FastPathMode,
  log: Log,
): NodeCapabilities {
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release()) ?? [];
  return {
    underlayMtu: underlayMtu(underlay, log),
    kernel: { major: Number(major), minor: Number(minor) },
    // Absent with ipv6.disable=1 and on kernels without IPv6.
    families: existsSync('/proc/net/if_inet6') ? ['inet', 'inet6'] : ['inet'],
    schedulers,
    fastPath: fastPath === 'off' ? undefined : fastPath === 'full' ? fullFastPath(underlay, log) : {},
  };
}

/** The program on the underlay interface parses Ethernet headers; other links have no MAC address. */
function fullFastPath(underlay: IpAddress, log: Log): FastPath {
  const link = findUnderlayLink(underlay);
  if (link !== undefined && link.mac !== NO_MAC) return { link: link.name };
  log.warn(`${link?.name ?? `the link of ${underlay}`} is not an Ethernet link; using the fast path inside only`);
  return {};
}

const NO_MAC = '00:00:00:00:00:00';

/** MTU of the interface that has the address, bytes. */
function underlayMtu(underlay: IpAddress, log: Log): number {
  const link = findUnderlayLink(underlay);
  if (link?.mtu !== undefined) return link.mtu;
  const problem =
    link === undefined ? `no interface of this machine has ${underlay}` : `cannot read the MTU of ${link.name}`;
  log.warn(`${problem}; assuming an MTU of ${ETHERNET_MTU}`);
  return ETHERNET_MTU;
}
