import { readFileSync, readlinkSync } from 'node:fs';
import { statfs } from 'node:fs/promises';
import { basename } from 'node:path';
import { runInNetns } from '../../kernel/firewall/firewall.ts';
import { readLinkFeatures } from '../../kernel/host/ethtool.ts';
import type { Kernel } from '../../kernel/kernel.ts';
import { readSysctls } from '../../kernel/observe/sysctl.ts';
import { familyOf, type IpAddress } from '../../model/address.ts';
import { HOST_NETNS } from '../../model/linux-names.ts';
import { VXLAN_OVERHEAD } from '../../model/mtu.ts';
import { measureUnderlayMtu, underlayLink } from '../node/underlay-mtu.ts';
import type { FirewallFacts } from './firewall.ts';
import type { UnderlayFacts } from './link.ts';
import type { NodeStateFacts } from './node-state.ts';
import { rpFilter, type SysctlFacts, sysctlsToRead } from './sysctls.ts';

/** include/uapi/linux/ipv6_route.h */
const RTF_DEFAULT = 0x0001_0000;
const RTF_ADDRCONF = 0x0004_0000;

export function readSysctlFacts(kernel: Kernel, inet6: boolean): SysctlFacts {
  const advertised = inet6 ? linksWithRouterAdvertisement(readText('/proc/net/ipv6_route')) : [];
  const values = new Map(
    [...sysctlsToRead(advertised)].map(([netns, names]) => [netns, readSysctls(kernel.netnsPath(netns), names)]),
  );
  return { values, inet6, advertised };
}

/** Links of default routes that came by router advertisement, out of /proc/net/ipv6_route. */
export function linksWithRouterAdvertisement(routes: string): string[] {
  const links = routes.split('\n').flatMap((line) => {
    const [destination, prefix, , , , , , , flags = '0', link] = line.trim().split(/\s+/);
    const bits = Number.parseInt(flags, 16);
    const isDefault = /^0+$/.test(destination ?? '') && prefix === '00';
    const advertised = (bits & RTF_DEFAULT) !== 0 && (bits & RTF_ADDRCONF) !== 0;
    return isDefault && advertised && link !== undefined ? [link] : [];
  });
  return [...new Set(links)];
}

/** The interface that has the node's underlay address, and the MTU towards its peers. */
export async function readUnderlayFacts(
  kernel: Kernel,
  address: IpAddress,
  peers: readonly IpAddress[],
): Promise<Omit<UnderlayFacts, 'overlayMtu'>> {
  const overhead = VXLAN_OVERHEAD[familyOf(address)];
  const [link, mtu] = await Promise.all([
    underlayLink(kernel.hostNetwork, address),
    measureUnderlayMtu(kernel.hostNetwork, address, peers),
  ]);
  if (link === undefined || mtu === undefined) return { address, overhead, features: undefined };
  const { name } = link;
  const driver = driverOf(name);
  const filters = readSysctls(kernel.netnsPath(HOST_NETNS), [rpFilter('all'), rpFilter(name)]);
  const strict = familyOf(address) === 'inet' && Math.max(...[...filters.values()].map(Number)) === 1;
  const features = await readLinkFeatures(name);
  return { address, overhead, features, link: { name, mtu, strict, ...(driver === undefined ? {} : { driver }) } };
}

function driverOf(link: string): string | undefined {
  try {
    return basename(readlinkSync(`/sys/class/net/${link}/device/driver`));
  } catch {
    return undefined; // made of software
  }
}

/** Packet filters of the host, to look for rules that may drop traffic; unreadable ones are skipped. */
export async function readFirewallFacts(
  kernel: Kernel,
  underlay: IpAddress,
): Promise<Pick<FirewallFacts, 'rules' | 'command' | 'ruleset'>> {
  const host = kernel.netnsPath(HOST_NETNS);
  const command = familyOf(underlay) === 'inet' ? 'iptables' : 'ip6tables';
  const [rules, ruleset] = await Promise.all([
    runInNetns(host, `${command}-save`, [], '').catch(() => undefined),
    runInNetns(host, 'nft', ['list', 'ruleset'], '').catch(() => ''),
  ]);
  return { rules, command, ruleset };
}

export async function readDiskSpace(directory: string): Promise<NodeStateFacts['disk']> {
  try {
    const { bavail, blocks, bsize } = await statfs(directory);
    return { free: bavail * bsize, size: blocks * bsize };
  } catch {
    return undefined;
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'latin1');
  } catch {
    return '';
  }
}
