import type { Op } from '../../model/kernel-state.ts';
import { createSet, destroySet } from '../../netlink/ipset.ts';
import type { NetlinkRequest } from '../../netlink/message.ts';
import { type RequestContext, sharedSteps } from '../driver/steps.ts';
import { NETLINK_NETFILTER } from '../driver/transport.ts';
import { IPSET_CODES, tryModprobe } from './failure-codes.ts';
import { netnsNames } from './kernel-rules.ts';
import { type LinuxKind, objectOf } from './kind.ts';
import { observeSets } from './sets.ts';

/** Of a hash set; its table grows with its elements, and 65536 is the default limit. */
const MAX_ELEMENTS = 1 << 20;

const stepsIn = sharedSteps(NETLINK_NETFILTER, (_context: RequestContext, op: Op): NetlinkRequest => {
  const set = objectOf('ipset', op);
  const { name, type, skbinfo } = set;
  if (op.verb === 'delete') return destroySet(name);
  const shape = set.type === 'bitmap:port' ? { range: set.range } : { family: set.family, maxElements: MAX_ELEMENTS };
  return createSet({ name, type, skbinfo, ...shape });
});

/** A set without its elements. */
export const ipsetKind: LinuxKind<'ipset'> = {
  steps: ({ object }) => stepsIn(object.netns),
  observer: observeSets,
  audit: 'costly',
  related: [],
  failures: IPSET_CODES,
  remedy(_, code) {
    if (code === 'IPSET_ERR_FIND_TYPE') return tryModprobe('ip_set_bitmap_port');
    return code === 'IPSET_ERR_BUSY' ? 'a rule still uses the set: see `iptables-save | grep match-set`' : undefined;
  },
  rules: { livesIn: ({ netns }) => netnsNames(netns), canChange: () => false },
};
