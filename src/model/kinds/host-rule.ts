import type { Family } from '../address.ts';
import { ROUTE_PROTOCOL } from '../linux-names.ts';
import { type RuleAction, type RuleSelectors, ruleWords } from '../policy-rule.ts';
import { either, family, network, number, oneOf, optional, shape } from './fields.ts';
import { defineKind, type ObjectBase } from './kind.ts';
import { IP_VERB, ip } from './words.ts';

/**
 * A rule of meshd in the policy routing of the host, for packets to or from the lb. Only its protocol number distinguishes
 * it from those of other programs. The kernel identifies a rule by all its fields, so rules are never changed.
 */
export interface HostRule extends ObjectBase, RuleSelectors {
  kind: 'host-rule';
  family: Family;
  priority: number;
  action: RuleAction;
  /** A route with a prefix this long or shorter does not count. */
  suppressPrefix?: number;
}

const range = shape({ from: number, to: number });

export const hostRule = defineKind<HostRule>({
  kind: 'host-rule',
  fields: {
    family,
    priority: number,
    source: optional(network),
    destination: optional(network),
    fwmark: number,
    fwmask: number,
    ipProtocol: optional(number),
    sourcePorts: optional(range),
    destinationPorts: optional(range),
    suppressPrefix: optional(number),
    action: either(
      oneOf('nop', 'blackhole', 'unreachable', 'prohibit'),
      shape({ lookup: number }),
      shape({ goto: number }),
    ),
  },
  key: (object) => `host-rule ${object.netns} ${object.family} ${ruleWords(object)}`,
  stage: 'rules',
  commands(object, verb, before) {
    if (verb === 'change' && before !== undefined) return [command(before, 'del'), command(object, 'add')];
    return [command(object, IP_VERB[verb])];
  },
});

function command(object: HostRule, verb: string): string {
  return `${ip(object.netns, object.family)} rule ${verb} ${ruleWords(object)} protocol ${ROUTE_PROTOCOL}`;
}
