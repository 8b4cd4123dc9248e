import { addEntry, deleteEntry } from '../../netlink/ipset.ts';
import { sharedSteps } from '../driver/steps.ts';
import { NETLINK_NETFILTER } from '../driver/transport.ts';
import { IPSET_CODES } from './failure-codes.ts';
import { netnsNames, setName } from './kernel-rules.ts';
import { type LinuxKind, objectOf } from './kind.ts';
import { ALL_BITS, observeSets } from './sets.ts';

const stepsIn = sharedSteps(NETLINK_NETFILTER, (_, op) => {
  const { set, port, mark } = objectOf('set-member', op);
  const entry = mark === undefined ? { port } : { port, skbMark: { mark, mask: ALL_BITS } };
  if (op.verb === 'delete') return deleteEntry(set, entry);
  // Adding again without NLM_F_EXCL updates the mark in place.
  return addEntry(set, entry, op.verb === 'change' ? 'ensure' : 'create');
});

/** A port in a bitmap:port set. */
export const setMemberKind: LinuxKind<'set-member'> = {
  steps: ({ object }) => stepsIn(object.netns),
  observer: observeSets,
  audit: 'costly',
  related: [],
  failures: IPSET_CODES,
  rules: {
    livesIn: ({ netns, set }) => [...netnsNames(netns), setName(netns, set)],
    refusal({ netns, set: name, port, mark }, view) {
      const set = view.get(setName(netns, name));
      if (set?.kind !== 'ipset') return 'ENOENT';
      if (set.type !== 'bitmap:port' || port < set.range.from || port > set.range.to) return 'EINVAL';
      return mark !== undefined && !set.skbinfo ? 'EINVAL' : undefined;
    },
  },
};
