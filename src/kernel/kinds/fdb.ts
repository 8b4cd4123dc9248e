import { keyOf } from '../../model/kernel-state.ts';
import type { FdbEntry } from '../../model/kinds/fdb.ts';
import { decodeFdb, deleteFdb, dumpFdb, type FdbRecord, isFdb, newFdb } from '../../netlink/neighbour.ts';
import { RTM_DELNEIGH, RTM_NEWNEIGH, RTNLGRP } from '../../netlink/rtnetlink.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { routeStep } from '../driver/steps.ts';
import type { LinkNameOf } from '../observe/observe-links.ts';
import type { Observer } from '../observe/observer.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { linkName, netnsNames } from './kernel-rules.ts';
import type { LinuxKind, OpOf } from './kind.ts';
import { dumpRouting, eventOnLink } from './routing.ts';

const FLOODING_MAC = '00:00:00:00:00:00';

const observeFdb: Observer = async (scan) => {
  const nameOf = await scan.view.linkNameOf(scan.netns);
  const found: FdbEntry[] = [];
  for (const { index, kind } of await scan.view.linksOf(scan.netns)) {
    if (kind !== 'vxlan') continue;
    for (const entry of decodeAll(await dumpRouting(scan, dumpFdb({ index })), decodeFdb)) {
      const object = fdbObject(scan.netns, entry, nameOf);
      if (object !== undefined) found.push(object);
    }
  }
  return found;
};

/** A forwarding entry of a vxlan device. */
export const fdbKind: LinuxKind<'fdb'> = {
  steps({ verb, object }: OpOf<'fdb'>) {
    const { netns, dev, mac, dst, vni } = object;
    return [
      routeStep(
        netns,
        ({ index }) =>
          verb === 'delete'
            ? deleteFdb({ index: index(dev), mac })
            : newFdb({ index: index(dev), mac, dst, vni }, verb === 'change' ? 'replace' : 'create'),
        [dev],
      ),
    ];
  },
  observer: observeFdb,
  events: {
    source: 'rtnetlink',
    groups: [RTNLGRP.neighbour],
    inHost: false,
    types: [RTM_NEWNEIGH, RTM_DELNEIGH],
    complete: true,
    decode(netns, message, nameOf) {
      if (!isFdb(message)) return [];
      const entry = decodeFdb(message);
      // Some kernels (6.1) announce each change twice, the second time without the destination (rtnl_fdb_notify).
      if (!entry.ok || entry.value.dst === undefined) return [];
      const { index, mac } = entry.value;
      const key = (dev: string) => keyOf({ kind: 'fdb', netns, dev, mac, dst: '' });
      return eventOnLink(netns, 'fdb', index, nameOf, key, () =>
        message.type === RTM_DELNEIGH ? undefined : fdbObject(netns, entry.value, nameOf),
      );
    },
  },
  audit: 'notified',
  related: ['link', 'network'],
  failures: ERRNO_CODES,
  rules: { livesIn: ({ netns, dev }) => [...netnsNames(netns), linkName(netns, dev)] },
};

/** Undefined for learned entries, the flooding entry and those without a remote VTEP. */
function fdbObject(netns: string, entry: FdbRecord, nameOf: LinkNameOf): FdbEntry | undefined {
  const dev = nameOf(entry.index);
  if (dev === undefined || !entry.permanent || entry.dst === undefined || entry.mac === FLOODING_MAC) return undefined;
  const { mac, dst, port, vni } = entry;
  return {
    kind: 'fdb',
    netns,
    dev,
    mac,
    dst,
    ...(vni === undefined ? {} : { vni }),
    // The kernel reports the port only when it is not the device's own.
    ...(port === undefined ? {} : { foreign: [`port ${port}`] }),
  };
}
