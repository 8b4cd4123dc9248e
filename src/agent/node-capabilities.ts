import { existsSync } from 'node:fs';
import { networkInterfaces, release } from 'node:os';
import type { Log } from '../base/log.ts';
import type { IpAddress } from '../model/address.ts';
import type { FastPath, NodeCapabilities } from '../plan/context.ts';

/** Where the fast path is used: not at all, inside our own namespaces, or from the underlay interface on. */
export const FAST_PATH_MODES = ['off', 'inside', 'full'] as const;
export type FastPathMode = (typeof FAST_PATH_MODES)[number];

/** What was measured and probed with the kernel before. */
interface Probed {
  underlay: IpAddress;
  /** See agent/node/underlay-mtu.ts. */
  underlayMtu: number;
  schedulers: readonly string[];
  /** As requested, if the kernel supports it. */
  fastPath: FastPathMode;
}

/** Detects what else a plan needs to know about this machine. */
export function detectCapabilities(probed: Probed, log: Log): NodeCapabilities {
  const { underlay, underlayMtu, schedulers, fastPath } = probed;
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release()) ?? [];
  return {
    underlayMtu,
    kernel: { major: Number(major), minor: Number(minor) },
    // Absent with ipv6.disable=1 and on kernels without IPv6.
    families: existsSync('/proc/net/if_inet6') ? ['inet', 'inet6'] : ['inet'],
    schedulers,
    fastPath: fastPath === 'off' ? undefined : fastPath === 'full' ? fullFastPath(underlay, log) : {},
  };
}

/** The program on the underlay interface parses Ethernet headers; other links have no MAC address. */
function fullFastPath(underlay: IpAddress, log: Log): FastPath {
  const links = Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
    addresses.map(({ address, mac }) => ({ name, address, mac })),
  );
  const link = links.find(({ address }) => address === underlay);
  if (link !== undefined && link.mac !== NO_MAC) return { link: link.name };
  log.warn(`${link?.name ?? `the link of ${underlay}`} is not an Ethernet link; using the fast path inside only`);
  return {};
}

const NO_MAC = '00:00:00:00:00:00';
