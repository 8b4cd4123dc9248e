import { existsSync, readFileSync } from 'node:fs';
import { networkInterfaces, release } from 'node:os';
import type { Log } from '../base/log.ts';
import type { IpAddress } from '../model/address.ts';
import type { Facts } from '../plan/context.ts';

const ETHERNET_MTU = 1_500;

/** Measures what a plan has to know of this machine; which schedulers its kernel has, the kernel room tells. */
export function measureFacts(underlay: IpAddress, schedulers: readonly string[], log: Log): Facts {
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release()) ?? [];
  return {
    underlayMtu: mtuTowards(underlay, log),
    kernel: { major: Number(major), minor: Number(minor) },
    // Absent with ipv6.disable=1 and on kernels without IPv6.
    families: existsSync('/proc/net/if_inet6') ? ['inet', 'inet6'] : ['inet'],
    schedulers,
  };
}

/** MTU of the interface that has the address, bytes. */
function mtuTowards(underlay: IpAddress, log: Log): number {
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    if (!addresses?.some(({ address }) => address === underlay)) continue;
    try {
      const mtu = Number(readFileSync(`/sys/class/net/${name}/mtu`, 'utf8'));
      if (mtu > 0) return mtu;
    } catch {
      // sysfs may not be mounted, or show another netns.
    }
    log.warn(`cannot read the MTU of ${name}: taking ${ETHERNET_MTU}`);
    return ETHERNET_MTU;
  }
  log.warn(`no interface of this machine has ${underlay}: taking an MTU of ${ETHERNET_MTU}`);
  return ETHERNET_MTU;
}
