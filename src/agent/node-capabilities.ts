import { existsSync } from 'node:fs';
import { release } from 'node:os';
import type { Log } from '../base/log.ts';
import type { FastPath, NodeCapabilities } from '../plan/context.ts';

/** Where the fast path is used: not at all, inside our own namespaces, or from the underlay interface on. */
export const FAST_PATH_MODES = ['off', 'inside', 'full'] as const;
export type FastPathMode = (typeof FAST_PATH_MODES)[number];

/** What was measured and probed with the kernel before. */
interface Probed {
  /** The link of the advertised address; undefined while the host does not have it. */
  underlayLink: { name: string; ethernet: boolean } | undefined;
  /** See agent/node/underlay-mtu.ts. */
  underlayMtu: number;
  schedulers: readonly string[];
  /** As requested, if the kernel supports it. */
  fastPath: FastPathMode;
}

/** Detects what else a plan needs to know about this machine. */
export function detectCapabilities(probed: Probed, log: Log): NodeCapabilities {
  const { underlayLink, underlayMtu, schedulers, fastPath } = probed;
  const [, major = '0', minor = '0'] = /^(\d+)\.(\d+)/.exec(release()) ?? [];
  return {
    underlayMtu,
    kernel: { major: Number(major), minor: Number(minor) },
    // Absent with ipv6.disable=1 and on kernels without IPv6.
    families: existsSync('/proc/net/if_inet6') ? ['inet', 'inet6'] : ['inet'],
    schedulers,
    fastPath: fastPath === 'off' ? undefined : fastPath === 'full' ? fullFastPath(underlayLink, log) : {},
  };
}

/** The program on the underlay interface parses Ethernet frames, where they arrive. */
function fullFastPath(link: Probed['underlayLink'], log: Log): FastPath {
  if (link?.ethernet) return { link: link.name };
  const problem =
    link === undefined
      ? 'no link has the advertised address'
      : `${link.name} receives no Ethernet frames of other hosts`;
  log.warn(`--fast-path full: ${problem}; using the fast path inside only`);
  return {};
}
