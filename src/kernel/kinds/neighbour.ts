import { keyOf } from '../../model/kernel-state.ts';
import type { Neighbour } from '../../model/kinds/neighbour.ts';
import {
  decodeNeighbour,
  deleteNeighbour,
  dumpNeighbours,
  isFdb,
  type NeighbourEntry,
  newNeighbour,
} from '../../netlink/neighbour.ts';
import { RTM_DELNEIGH, RTM_NEWNEIGH, RTNLGRP } from '../../netlink/rtnetlink.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { routeStep } from '../driver/steps.ts';
import type { LinkNameOf } from '../observe/observe-links.ts';
import type { Observer } from '../observe/observer.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { linkName, netnsNames } from './kernel-rules.ts';
import type { LinuxKind, OpOf } from './kind.ts';
import { dumpRouting, eventOnLink, linkFilters } from './routing.ts';

const observeNeighbours: Observer = async (scan) => {
  const nameOf = await scan.view.linkNameOf(scan.netns);
  const found: Neighbour[] = [];
  for (const filter of await linkFilters(scan)) {
    for (const entry of decodeAll(await dumpRouting(scan, dumpNeighbours(filter)), decodeNeighbour)) {
      const object = neighbourObject(scan.netns, entry, nameOf);
      if (object !== undefined) found.push(object);
    }
  }
  return found;
};

/** A permanent neighbour entry. */
export const neighbourKind: LinuxKind<'neighbour'> = {
  steps({ verb, object }: OpOf<'neighbour'>) {
    const { netns, dev, address, mac } = object;
    return [
      routeStep(
        netns,
        ({ index }) =>
          verb === 'delete'
            ? deleteNeighbour({ index: index(dev), address })
            : // Always replaces: the kernel may have begun to resolve the address itself (NUD_INCOMPLETE, NUD_FAILED).
              newNeighbour({ index: index(dev), address, mac }, 'replace'),
        [dev],
      ),
    ];
  },
  observer: observeNeighbours,
  events: {
    source: 'rtnetlink',
    groups: [RTNLGRP.neighbour],
    inHost: false,
    types: [RTM_NEWNEIGH, RTM_DELNEIGH],
    complete: true,
    decode(netns, message, nameOf) {
      if (isFdb(message)) return [];
      const entry = decodeNeighbour(message);
      if (!entry.ok) return [];
      const { index, address } = entry.value;
      const key = (dev: string) => keyOf({ kind: 'neighbour', netns, dev, address, mac: '' });
      return eventOnLink(netns, 'neighbour', index, nameOf, key, () =>
        message.type === RTM_DELNEIGH ? undefined : neighbourObject(netns, entry.value, nameOf),
      );
    },
  },
  audit: 'notified',
  related: ['link', 'network'],
  failures: ERRNO_CODES,
  rules: { livesIn: ({ netns, dev }) => [...netnsNames(netns), linkName(netns, dev)] },
};

/** Undefined for entries that the kernel learned or that are on links that are not ours. */
function neighbourObject(netns: string, entry: NeighbourEntry, nameOf: LinkNameOf): Neighbour | undefined {
  const dev = nameOf(entry.index);
  if (dev === undefined || !entry.permanent || entry.mac === undefined) return undefined;
  return { kind: 'neighbour', netns, dev, address: entry.address, mac: entry.mac };
}
