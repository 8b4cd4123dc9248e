import { type Cidr, familyOf, type IpAddress } from '../../model/address.ts';
import { hostPrefix } from '../../model/block.ts';
import type { IpSet } from '../../model/kinds/ipset.ts';
import type { SetEntry } from '../../model/kinds/set-entry.ts';
import { addEntry, deleteEntry } from '../../netlink/ipset.ts';
import type { SetEntry as NetlinkSetEntry } from '../../netlink/ipset-entry.ts';
import { sharedSteps } from '../driver/steps.ts';
import { NETLINK_NETFILTER } from '../driver/transport.ts';
import { IPSET_CODES } from './failure-codes.ts';
import { netnsNames, setName } from './kernel-rules.ts';
import { type LinuxKind, objectOf } from './kind.ts';
import { observeSets } from './sets.ts';

const stepsIn = sharedSteps(NETLINK_NETFILTER, (_, op) => {
  const entry = objectOf('set-entry', op);
  if (op.verb === 'delete') return deleteEntry(entry.set, elementOf(entry));
  // Adding again without NLM_F_EXCL removes `nomatch` from an entry.
  return addEntry(entry.set, elementOf(entry), op.verb === 'change' ? 'ensure' : 'create');
});

/** A network in a hash set. */
export const setEntryKind: LinuxKind<'set-entry'> = {
  steps: ({ object }) => stepsIn(object.netns),
  observer: observeSets,
  audit: 'costly',
  related: [],
  failures: IPSET_CODES,
  rules: {
    livesIn: ({ netns, set }) => [...netnsNames(netns), setName(netns, set)],
    refusal(entry, view) {
      const set = view.get(setName(entry.netns, entry.set));
      if (set?.kind !== 'ipset') return 'ENOENT';
      return fits(set, entry) ? undefined : 'EINVAL';
    },
  },
};

function elementOf({ network, protocol, port, network2, foreign }: SetEntry): NetlinkSetEntry {
  const [address, prefix] = splitNetwork(network);
  const [address2, prefix2] = network2 === undefined ? [] : splitNetwork(network2);
  return { address, prefix, protocol, port, address2, prefix2, noMatch: foreign?.includes('nomatch') };
}

/** Without a full prefix length: types of single addresses do not accept one. */
function splitNetwork(network: Cidr): [IpAddress, number?] {
  const [address = '', prefix = ''] = network.split('/');
  return Number(prefix) === hostPrefix(familyOf(network)) ? [address] : [address, Number(prefix)];
}

/** Whether an element has the fields and the family of its set. */
function fits(set: IpSet, { network, port, network2 }: SetEntry): boolean {
  if (set.type === 'bitmap:port' || familyOf(network) !== set.family) return false;
  if (network.endsWith('/0') || network2?.endsWith('/0')) return false;
  const isHost = network.endsWith(set.family === 'inet' ? '/32' : '/128');
  switch (set.type) {
    case 'hash:ip':
      return isHost && port === undefined && network2 === undefined;
    case 'hash:net,port':
      return port !== undefined && network2 === undefined;
    case 'hash:net,port,net':
      return port !== undefined && network2 !== undefined && familyOf(network2) === set.family;
  }
}
