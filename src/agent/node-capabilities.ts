import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces, release } from 'node:os';
import type { Log } from '../base/log.ts';
import type { IpAddress } from '../model/address.ts';
import type { FastPath, NodeCapabilities } from '../plan/context.ts';

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
  const found = findLink(underlay);
  const mac = found?.addresses.find(({ address }) => address === underlay)?.mac ?? NO_MAC;
  if (found !== undefined && mac !== NO_MAC) return { link: found.name };
  log.warn(`${found?.name ?? `the link of ${underlay}`} is not an Ethernet link; using the fast path inside only`);
  return {};
}

const NO_MAC = '00:00:00:00:00:00';

function findLink(underlay: IpAddress) {
  const all = Object.entries(networkInterfaces());
  const found = all.find(([, addresses]) => addresses?.some(({ address }) => address === underlay));
  return found === undefined ? undefined : { name: found[0], addresses: found[1] ?? [] };
}

/** MTU of the interface that has the address, bytes. */
function underlayMtu(underlay: IpAddress, log: Log): number {
  const name = findLink(underlay)?.name;
  if (name === undefined) {
    log.warn(`no interface of this machine has ${underlay}; assuming an MTU of ${ETHERNET_MTU}`);
    return ETHERNET_MTU;
  }
  try {
    const mtu = Number(readFileSync(`/sys/class/net/${name}/mtu`, 'utf8'));
    if (mtu > 0) return mtu;
  } catch {
    // sysfs may not be mounted, or show another netns.
  }
  log.warn(`cannot read the MTU of ${name}; assuming ${ETHERNET_MTU}`);
  return ETHERNET_MTU;
}
