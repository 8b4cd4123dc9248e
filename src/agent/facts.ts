import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces, release } from 'node:os';
import type { Log } from '../base/log.ts';
import type { IpAddress } from '../model/address.ts';
import type { Facts, Shortcut } from '../plan/context.ts';

const ETHERNET_MTU = 1_500;

/** How far packets may take the shortcut: not at all, inside our own namespaces, or from the wire on. */
export const SHORTCUTS = ['off', 'inside', 'full'] as const;
export type ShortcutMode = (typeof SHORTCUTS)[number];

/**
 * Measures what a plan has to know of this machine; which schedulers its kernel has, and whether it can do the shortcut
 * that is asked for, the kernel room tells.
 */
export function measureFacts(
  underlay: IpAddress,
  schedulers: readonly string[],
  shortcut: ShortcutMode,
  log: Log,
): Facts {
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release()) ?? [];
  return {
    underlayMtu: mtuTowards(underlay, log),
    kernel: { major: Number(major), minor: Number(minor) },
    // Absent with ipv6.disable=1 and on kernels without IPv6.
    families: existsSync('/proc/net/if_inet6') ? ['inet', 'inet6'] : ['inet'],
    schedulers,
    shortcut: shortcut === 'off' ? undefined : shortcut === 'full' ? fromTheWire(underlay, log) : {},
  };
}

/** The program at the wire reads Ethernet headers; other links have no address of that kind. */
function fromTheWire(underlay: IpAddress, log: Log): Shortcut {
  const found = linkOf(underlay);
  const mac = found?.addresses.find(({ address }) => address === underlay)?.mac ?? NO_MAC;
  if (found !== undefined && mac !== NO_MAC) return { link: found.name };
  log.warn(`the shortcut begins inside: ${found?.name ?? `the link of ${underlay}`} is no Ethernet`);
  return {};
}

const NO_MAC = '00:00:00:00:00:00';

function linkOf(underlay: IpAddress) {
  const all = Object.entries(networkInterfaces());
  const found = all.find(([, addresses]) => addresses?.some(({ address }) => address === underlay));
  return found === undefined ? undefined : { name: found[0], addresses: found[1] ?? [] };
}

/** MTU of the interface that has the address, bytes. */
function mtuTowards(underlay: IpAddress, log: Log): number {
  const name = linkOf(underlay)?.name;
  if (name === undefined) {
    log.warn(`no interface of this machine has ${underlay}: taking an MTU of ${ETHERNET_MTU}`);
    return ETHERNET_MTU;
  }
  try {
    const mtu = Number(readFileSync(`/sys/class/net/${name}/mtu`, 'utf8'));
    if (mtu > 0) return mtu;
  } catch {
    // sysfs may not be mounted, or show another netns.
  }
  log.warn(`cannot read the MTU of ${name}: taking ${ETHERNET_MTU}`);
  return ETHERNET_MTU;
}
