import ipaddr from 'ipaddr.js';
import type { Cidr, Family } from '../model/address.ts';
import { addressAt, hostNetwork, isWithin } from '../model/block.ts';
import { BLOCK_SLOT } from '../model/identifiers.ts';
import type { HostRule } from '../model/kinds/host-rule.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { ANSWER_MARKS, DELIVERY_PRIORITY, HOST_LINK, HOST_NETNS } from '../model/linux-names.ts';
import { type HostRouting, isKernelRule, type PolicyRule } from '../model/policy-rule.ts';
import type { PlanContext } from './context.ts';
import { called, connection, rule as firewallRule, input, setMarkBits } from './firewall-words.ts';
import { hookedChain } from './hooked-chain.ts';
import { sysctlsOf } from './sysctls.ts';

/*
 * Hosts with several uplinks choose routes by source address: `ip rule add from ADDRESS lookup TABLE`. NAT hides that
 * address from the routing decision: a request is routed when its destination already is the lb, an answer when its source
 * still is the lb. So that both leave as if the called address had sent them,
 * - packets to the lb meet a rule before those of others: `to LB lookup main`;
 * - answers get a mark by the called address, which conntrack knows, and each rule `from NETWORK` of another program has a
 *   twin of ours at its priority: `from LB fwmark MARK`, with the same other selectors and action.
 * On a host that has only the kernel's rules nothing of this exists, and no packet pays for it.
 */

/** The objects of both families that follow from the rules of other programs. */
export function planSourceRouting({ subnets, hostRouting }: PlanContext): KernelObject[] {
  if (hostRouting === undefined) return [];
  return subnets.flatMap(({ family, block }) => {
    const rules = hostRouting.rules.filter((rule) => rule.family === family);
    if (rules.every(isKernelRule)) return [];
    const lb = hostNetwork(addressAt(block, BLOCK_SLOT.lb));
    const marks = assignMarks(rules, hostRouting.localSources);
    const isStrict = hostRouting.strictReversePath && family === 'inet';
    return [
      deliveryRule(family, lb),
      ...rules.filter(isFollowed).flatMap((rule) => answerRules(rule, rules, lb, marks)),
      ...(marks.size === 0 ? [] : markingChain(family, marks, isStrict)),
      // The reverse path check of a request looks up the way of its answer, with the mark if this is set.
      ...(isStrict && marks.size > 0 ? sysctlsOf(HOST_NETNS, [['net.ipv4.conf.all.src_valid_mark', '1']]) : []),
    ];
  });
}

/** Rules that apply to what the host sends from some address, and not to answers from it: `meshctl doctor` reports them. */
export function unfollowedRules({ rules, localSources }: HostRouting): PolicyRule[] {
  return rules.filter((rule) => {
    if (!dependsOnSource(rule) || isKernelRule(rule)) return false;
    if (!isFollowed(rule)) return true;
    const marks = assignMarks(
      rules.filter(({ family }) => family === rule.family),
      localSources,
    );
    return rule.source !== undefined && localSources.includes(rule.source) && !marks.has(rule.source);
  });
}

const MAIN_TABLE = 254;

function deliveryRule(family: Family, lb: Cidr): HostRule {
  return {
    kind: 'host-rule',
    netns: HOST_NETNS,
    family,
    priority: DELIVERY_PRIORITY,
    destination: lb,
    fwmark: 0,
    fwmask: 0,
    action: { lookup: MAIN_TABLE },
  };
}

/** Whether a rule treats what the host sends by its source, or differently from what it forwards. */
function dependsOnSource({ source, fromHost, forwarded }: PolicyRule): boolean {
  return !forwarded && (source !== undefined || fromHost === true);
}

/** Whether a rule depends on the source, and on nothing that an answer cannot have. */
function isFollowed(rule: PolicyRule): boolean {
  const { destination, fwmark, fwmask, ipProtocol, sourcePorts, destinationPorts, inverted, fromHost } = rule;
  if (!dependsOnSource(rule) || rule.others || (fwmark & ANSWER_MARKS.mask) !== 0) return false;
  // The inverse of several conditions is a disjunction, which no rule can express.
  const more = [destination, ipProtocol, sourcePorts, destinationPorts, fromHost].some((one) => one !== undefined);
  return !inverted || (!more && fwmask === 0);
}

/**
 * A mark for each network that rules select by and that has addresses which can be called. It follows from the network, except
 * for collisions: a mark that moved to another network would misroute answers while chain and rules change. Networks
 * beyond the number of marks get none.
 */
function assignMarks(rules: readonly PolicyRule[], localSources: readonly Cidr[]): Map<Cidr, number> {
  const followed = new Set(rules.filter(isFollowed).flatMap(({ source }) => source ?? []));
  const networks = localSources.filter((network) => followed.has(network));
  const taken = new Map<number, Cidr>();
  for (const network of networks.sort().slice(0, ANSWER_MARKS.count)) {
    let place = hash(network) % ANSWER_MARKS.count;
    while (taken.has(place)) place = (place + 1) % ANSWER_MARKS.count;
    taken.set(place, network);
  }
  return new Map([...taken].map(([place, network]) => [network, (place + 1) * ANSWER_MARKS.unit]));
}

/** FNV-1a. */
function hash(text: string): number {
  let value = 0x811c_9dc5;
  for (const character of text) value = Math.imul(value ^ character.charCodeAt(0), 0x0100_0193) >>> 0;
  return value;
}

/** What makes answers meet this rule exactly when the called address would: a connection has the mark of its longest network. */
function answerRules(
  rule: PolicyRule,
  all: readonly PolicyRule[],
  lb: Cidr,
  marks: ReadonlyMap<Cidr, number>,
): HostRule[] {
  // Without a source all called addresses are alike.
  if (rule.source === undefined) return [twin(rule, lb)];
  const classes: [Cidr | undefined, number][] = [[undefined, 0], ...marks];
  return classes.flatMap(([network, mark]): HostRule[] => {
    const applies = selects(rule, network);
    const matches = !rule.fromHost && selects(rule, lb);
    if (applies === matches) return [];
    return applies ? [twin(rule, lb, mark)] : detour(rule, all, lb, [network, mark]);
  });
}

/** Whether a rule's source condition holds for every address of a network; `undefined`: for those in none of its networks. */
function selects({ source, inverted }: PolicyRule, network: Cidr | undefined): boolean {
  const isInside = source === undefined || (network !== undefined && contains(source, network));
  return isInside !== (inverted ?? false);
}

function contains(outer: Cidr, inner: Cidr): boolean {
  const [address = ''] = inner.split('/');
  return isWithin(address, outer) && ipaddr.parseCIDR(outer)[1] <= ipaddr.parseCIDR(inner)[1];
}

/** The rule for answers; with `mark`, for those that have it. New rules follow those of their priority (fib_nl_newrule). */
function twin(rule: PolicyRule, lb: Cidr, mark?: number): HostRule {
  const { family, priority, destination, fwmark, fwmask, ipProtocol, sourcePorts, destinationPorts, action } = rule;
  return {
    kind: 'host-rule',
    netns: HOST_NETNS,
    family,
    priority,
    source: lb,
    ...(destination === undefined ? {} : { destination }),
    fwmark: mark === undefined ? fwmark : (fwmark | mark) >>> 0,
    fwmask: mark === undefined ? fwmask : (fwmask | ANSWER_MARKS.mask) >>> 0,
    ...(ipProtocol === undefined ? {} : { ipProtocol }),
    ...(sourcePorts === undefined ? {} : { sourcePorts }),
    ...(destinationPorts === undefined ? {} : { destinationPorts }),
    ...(rule.suppressPrefix === undefined ? {} : { suppressPrefix: rule.suppressPrefix }),
    action,
  };
}

/**
 * The way past a rule that matches answers, because the lb is in its network, but not the called address: from just before
 * it to the next priority. None if another rule of the same priority applies, or if one may stand in the place before it.
 */
function detour(
  rule: PolicyRule,
  all: readonly PolicyRule[],
  lb: Cidr,
  [network, mark]: readonly [Cidr | undefined, number],
): HostRule[] {
  const next = Math.min(...all.map(({ priority }) => priority).filter((priority) => priority > rule.priority));
  const isShared = all.some((other) => other.priority === rule.priority && selects(other, network));
  const isOccupied = all.some((other) => other.priority === rule.priority - 1);
  if (isShared || isOccupied || !Number.isFinite(next) || rule.priority <= DELIVERY_PRIORITY) return [];
  return [
    {
      kind: 'host-rule',
      netns: HOST_NETNS,
      family: rule.family,
      priority: rule.priority - 1,
      source: lb,
      fwmark: mark,
      fwmask: ANSWER_MARKS.mask,
      action: { goto: next },
    },
  ];
}

/**
 * Marks packets by the called address; of several networks the longest counts, so it is last. Only answers need it, which
 * are those from mesh0; a strict reverse path check needs it for requests, too.
 */
function markingChain(family: Family, marks: ReadonlyMap<Cidr, number>, isStrict: boolean): KernelObject[] {
  const length = (network: Cidr) => ipaddr.parseCIDR(network)[1];
  const networks = [...marks].sort(([a], [b]) => length(a) - length(b) || (a < b ? -1 : 1));
  const matches = isStrict ? [connection('NEW', 'DNAT')] : [];
  const rules = networks.map(([network, mark]) =>
    firewallRule(setMarkBits(mark, ANSWER_MARKS.mask), ...matches, called(network)),
  );
  return hookedChain(HOST_NETNS, family, 'mangle', 'PREROUTING', rules, ...(isStrict ? [] : [input(HOST_LINK)]));
}
