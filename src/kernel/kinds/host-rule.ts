import { keyOf } from '../../model/kernel-state.ts';
import type { HostRule } from '../../model/kinds/host-rule.ts';
import { HOST_NETNS, ROUTE_PROTOCOL } from '../../model/linux-names.ts';
import { RTM_DELRULE, RTM_NEWRULE, RTNLGRP } from '../../netlink/rtnetlink.ts';
import { decodeRule, deleteRule, dumpRules, newRule, type RuleEntry } from '../../netlink/rule.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { routeStep } from '../driver/steps.ts';
import type { Observer } from '../observe/observer.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import type { LinuxKind, OpOf } from './kind.ts';
import { dumpRouting } from './routing.ts';

const observeHostRules: Observer = async (scan) => {
  if (scan.netns !== HOST_NETNS) return [];
  return decodeAll(await dumpRouting(scan, dumpRules()), decodeRule).flatMap((entry) => hostRuleObject(entry) ?? []);
};

/** A rule of the host with our protocol number (FRA_PROTOCOL, since 4.17). */
export const hostRuleKind: LinuxKind<'host-rule'> = {
  steps({ verb, object }: OpOf<'host-rule'>) {
    const { kind: _, netns, foreign: __, ...spec } = object;
    const request = { ...spec, protocol: ROUTE_PROTOCOL };
    const removal = routeStep(netns, () => deleteRule(request));
    if (verb === 'delete') return [removal];
    const creation = routeStep(netns, () => newRule(request));
    // The kernel cannot change a rule.
    return verb === 'change' ? [removal, creation] : [creation];
  },
  observer: observeHostRules,
  events: {
    source: 'rtnetlink',
    groups: [RTNLGRP.ipv4Rule, RTNLGRP.ipv6Rule],
    inHost: true,
    types: [RTM_NEWRULE, RTM_DELRULE],
    complete: true,
    decode(netns, message) {
      const entry = decodeRule(message);
      if (netns !== HOST_NETNS || !entry.ok) return [];
      const object = hostRuleObject(entry.value);
      if (object === undefined) return [];
      const isRemoval = message.type === RTM_DELRULE;
      return [{ of: 'object', kind: 'host-rule', key: keyOf(object), object: isRemoval ? undefined : object }];
    },
  },
  audit: 'notified',
  related: [],
  failures: ERRNO_CODES,
  rules: { livesIn: () => [], canChange: () => false },
};

/** Undefined for rules of other programs. */
function hostRuleObject(entry: RuleEntry): HostRule | undefined {
  const { action, protocol, inputLink: _, inverted: __, otherSelectors: ___, furtherSelectors: ____, ...rest } = entry;
  if (protocol !== ROUTE_PROTOCOL || action === 'other') return undefined;
  return { kind: 'host-rule', netns: HOST_NETNS, ...rest, action };
}
