import type { Cidr, Family } from './address.ts';
import { withoutHostPrefix } from './block.ts';
import { hex } from './kinds/words.ts';

/** Inclusive. */
export interface PortRange {
  from: number;
  to: number;
}

/** What a rule of policy routing compares with a packet; fields not given match any. */
export interface RuleSelectors {
  source?: Cidr;
  destination?: Cidr;
  /** Bits of `fwmask`; a mask of 0 compares none. */
  fwmark: number;
  fwmask: number;
  /** IPPROTO_*. */
  ipProtocol?: number;
  sourcePorts?: PortRange;
  destinationPorts?: PortRange;
}

export type RuleAction = { lookup: number } | { goto: number } | 'nop' | 'blackhole' | 'unreachable' | 'prohibit';

/** A rule that another program, or the kernel, has in the host: `ip rule show`. */
export interface PolicyRule extends RuleSelectors {
  family: Family;
  priority: number;
  action: RuleAction;
  /** A route with a prefix this long or shorter does not count. */
  suppressPrefix?: number;
  /** Matches what its selectors do not. */
  inverted?: true;
  /** Only packets of the host itself (`iif lo`). */
  fromHost?: true;
  /** Only packets that arrive on a link, so none that the host sends. */
  forwarded?: true;
  /** Selects by something else as well: outgoing links, users, tunnels, type of service. */
  others?: true;
}

/** What of the host's own routing a plan depends on. */
export interface HostRouting {
  /** In the kernel's order, without those of meshd. */
  rules: readonly PolicyRule[];
  /** Networks that rules select sources by and that contain a local address. */
  localSources: readonly Cidr[];
  /** Some link checks the reverse path of IPv4 strictly (rp_filter 1). */
  strictReversePath: boolean;
}

/** Tables that the kernel's own rules look up: local, main, default. */
const KERNEL_TABLES: readonly number[] = [255, 254, 253];

/** Whether the kernel makes such a rule in every netns, at whatever priority it is now. */
export function isKernelRule(rule: PolicyRule): boolean {
  const { family: _, priority: __, fwmark: ___, fwmask, action, ...conditions } = rule;
  if (fwmask !== 0 || Object.values(conditions).some((one) => one !== undefined)) return false;
  return typeof action === 'object' && 'lookup' in action && KERNEL_TABLES.includes(action.lookup);
}

/** A rule as `ip rule add` takes it, as far as its fields say it. */
export function ruleWords(
  rule: RuleSelectors & Pick<PolicyRule, 'priority' | 'action' | 'suppressPrefix' | 'inverted'>,
): string {
  const { priority, source, destination, fwmark, fwmask, ipProtocol, sourcePorts, destinationPorts, action } = rule;
  return [
    `priority ${priority}`,
    ...(rule.inverted ? ['not'] : []),
    ...(source === undefined ? [] : [`from ${withoutHostPrefix(source)}`]),
    ...(destination === undefined ? [] : [`to ${withoutHostPrefix(destination)}`]),
    ...(fwmask === 0 ? [] : [`fwmark ${hex(fwmark)}/${hex(fwmask)}`]),
    ...(ipProtocol === undefined ? [] : [`ipproto ${ipProtocol}`]),
    ...(sourcePorts === undefined ? [] : [`sport ${rangeWords(sourcePorts)}`]),
    ...(destinationPorts === undefined ? [] : [`dport ${rangeWords(destinationPorts)}`]),
    actionWords(action),
    ...(rule.suppressPrefix === undefined ? [] : [`suppress_prefixlength ${rule.suppressPrefix}`]),
  ].join(' ');
}

function rangeWords({ from, to }: PortRange): string {
  return from === to ? String(from) : `${from}-${to}`;
}

function actionWords(action: RuleAction): string {
  if (typeof action === 'string') return action;
  return 'lookup' in action ? `lookup ${action.lookup}` : `goto ${action.goto}`;
}
