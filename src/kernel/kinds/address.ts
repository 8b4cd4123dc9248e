import { keyOf } from '../../model/kernel-state.ts';
import type { AddressObject } from '../../model/kinds/address.ts';
import { TASK_GATEWAY } from '../../model/linux-names.ts';
import {
  type AddressEntry,
  decodeAddress,
  deleteAddress,
  dumpAddresses,
  IFA_F_NODAD,
  newAddress,
} from '../../netlink/address.ts';
import { RTM_DELADDR, RTM_NEWADDR, RTNLGRP } from '../../netlink/rtnetlink.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { routeStep } from '../driver/steps.ts';
import type { LinkNameOf } from '../observe/observe-links.ts';
import type { Observer } from '../observe/observer.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { linkName, localName, netnsNames } from './kernel-rules.ts';
import type { LinuxKind, OpOf } from './kind.ts';
import { dumpRouting, eventOnLink, linkFilters } from './routing.ts';

const observeAddresses: Observer = async (scan) => {
  const nameOf = await scan.view.linkNameOf(scan.netns);
  const found: AddressObject[] = [];
  for (const filter of await linkFilters(scan)) {
    for (const entry of decodeAll(await dumpRouting(scan, dumpAddresses(filter)), decodeAddress)) {
      const object = addressObject(scan.netns, entry, nameOf);
      if (object !== undefined) found.push(object);
    }
  }
  return found;
};

/** An address on one of our links. */
export const addressKind: LinuxKind<'address'> = {
  steps({ verb, object }: OpOf<'address'>) {
    const { netns, dev, address, prefix } = object;
    const flags = address.includes(':') ? IFA_F_NODAD : undefined;
    return [
      routeStep(
        netns,
        ({ index }) =>
          verb === 'delete'
            ? deleteAddress({ index: index(dev), address, prefix })
            : newAddress({ index: index(dev), address, prefix, flags }, verb === 'change' ? 'replace' : 'create'),
        [dev],
      ),
    ];
  },
  observer: observeAddresses,
  events: {
    source: 'rtnetlink',
    groups: [RTNLGRP.ipv4Address, RTNLGRP.ipv6Address],
    inHost: true,
    types: [RTM_NEWADDR, RTM_DELADDR],
    complete: true,
    decode(netns, message, nameOf) {
      const entry = decodeAddress(message);
      if (!entry.ok) return [];
      const { index, address, prefix } = entry.value;
      const key = (dev: string) => keyOf({ kind: 'address', netns, dev, address, prefix });
      return eventOnLink(netns, 'address', index, nameOf, key, () =>
        message.type === RTM_DELADDR ? undefined : addressObject(netns, entry.value, nameOf),
      );
    },
  },
  audit: 'notified',
  related: ['link', 'network'],
  failures: ERRNO_CODES,
  rules: {
    names: ({ netns, dev, address }) => [`address ${netns} ${dev} ${address}`],
    sharedNames: ({ netns, address }) => [localName(netns, address)],
    livesIn: ({ netns, dev }) => [...netnsNames(netns), linkName(netns, dev)],
    canChange: () => false,
  },
};

/** Undefined for addresses that the kernel assigns itself: loopback and link-local ones, except the gateway of tasks. */
function addressObject(netns: string, entry: AddressEntry, nameOf: LinkNameOf): AddressObject | undefined {
  const dev = nameOf(entry.index);
  const { address, prefix } = entry;
  const isAutomatic = address === '::1' || address.startsWith('127.') || /^fe[89ab]/.test(address);
  if (dev === undefined || (isAutomatic && address !== TASK_GATEWAY.inet6)) return undefined;
  return { kind: 'address', netns, dev, address, prefix };
}
