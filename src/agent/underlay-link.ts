import { readFileSync } from 'node:fs';
import { networkInterfaces } from 'node:os';
import type { IpAddress } from '../model/address.ts';

export interface UnderlayLink {
  name: string;
  /** MAC address; all zero for a link that is not Ethernet. */
  mac: string;
  /** Bytes; undefined where sysfs is not mounted, or shows another netns. */
  mtu: number | undefined;
}

/** The network interface of this host that has the address. */
export function findUnderlayLink(address: IpAddress): UnderlayLink | undefined {
  for (const [name, addresses = []] of Object.entries(networkInterfaces())) {
    const found = addresses.find((one) => one.address === address);
    if (found !== undefined) return { name, mac: found.mac, mtu: readMtu(name) };
  }
  return undefined;
}

function readMtu(link: string): number | undefined {
  try {
    return Number(readFileSync(`/sys/class/net/${link}/mtu`, 'utf8')) || undefined;
  } catch {
    return undefined;
  }
}
