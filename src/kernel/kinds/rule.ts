import { keyOf } from '../../model/kernel-state.ts';
import type { Rule } from '../../model/kinds/rule.ts';
import { HOST_NETNS, RULE_PRIORITY } from '../../model/linux-names.ts';
import { RTM_DELRULE, RTM_NEWRULE, RTNLGRP } from '../../netlink/rtnetlink.ts';
import { decodeRule, deleteRule, dumpRules, newRule, type RuleEntry } from '../../netlink/rule.ts';
import { decodeAll } from '../driver/decode-all.ts';
import { routeStep } from '../driver/steps.ts';
import type { Observer } from '../observe/observer.ts';
import { ERRNO_CODES } from './failure-codes.ts';
import { netnsNames } from './kernel-rules.ts';
import type { LinuxKind, OpOf } from './kind.ts';
import { dumpRouting } from './routing.ts';

const NARROWER = 'selects by more than the mark';

const observeRules: Observer = async (scan) => {
  // In the host ours are `host-rule`.
  if (scan.netns === HOST_NETNS) return [];
  const found = new Map<string, Rule>();
  for (const entry of decodeAll(await dumpRouting(scan, dumpRules()), decodeRule)) {
    const rule = ruleObject(scan.netns, entry);
    if (rule === undefined) continue;
    const key = keyOf(rule);
    const twin = found.get(key);
    // Requests cannot distinguish them, so each counts and all are replaced.
    const foreign = twin && [...(twin.foreign ?? ['doubled']), ...(rule.foreign ?? ['doubled'])];
    found.set(key, foreign === undefined ? rule : { ...rule, foreign });
  }
  return [...found.values()];
};

/** A routing rule that selects by fwmark. */
export const ruleKind: LinuxKind<'rule'> = {
  steps(op: OpOf<'rule'>) {
    const { netns, family, priority, fwmark, fwmask, action } = op.object;
    const spec = { family, priority, fwmark, fwmask, action };
    const create = routeStep(netns, () => newRule(spec));
    if (op.verb === 'create') return [create];
    const { foreign } = op.verb === 'change' ? op.before : op.object;
    // A foreign rule may have an action we have no word for.
    const selector = foreign === undefined ? spec : { family, priority, fwmark, fwmask };
    const removal = routeStep(netns, () => deleteRule(selector));
    const removals = foreign === undefined ? [removal] : foreign.map(() => removal);
    // The kernel cannot change a rule.
    return op.verb === 'delete' ? removals : [...removals, create];
  },
  observer: observeRules,
  events: {
    source: 'rtnetlink',
    groups: [RTNLGRP.ipv4Rule, RTNLGRP.ipv6Rule],
    inHost: false,
    types: [RTM_NEWRULE, RTM_DELRULE],
    complete: true,
    decode(netns, message) {
      const entry = decodeRule(message);
      const object = entry.ok && netns !== HOST_NETNS ? ruleObject(netns, entry.value) : undefined;
      if (object === undefined) return [];
      return [
        { of: 'object', kind: 'rule', key: keyOf(object), object: message.type === RTM_DELRULE ? undefined : object },
      ];
    },
  },
  audit: 'notified',
  related: ['network'],
  failures: ERRNO_CODES,
  rules: { livesIn: ({ netns }) => netnsNames(netns) },
};

/** Undefined for rules whose priority is not one of ours. */
function ruleObject(netns: string, entry: RuleEntry): Rule | undefined {
  const { family, priority, fwmark, fwmask, action, otherSelectors } = entry;
  if (priority < RULE_PRIORITY.first || priority > RULE_PRIORITY.last) return undefined;
  const isPlanned = action === 'nop' || typeof action === 'object';
  const rule: Rule = { kind: 'rule', netns, family, priority, fwmark, fwmask, action: isPlanned ? action : 'nop' };
  const foreign = [...(otherSelectors ? [NARROWER] : []), ...(isPlanned ? [] : ['refuses packets'])];
  return foreign.length === 0 ? rule : { ...rule, foreign: [foreign.join(', ')] };
}
