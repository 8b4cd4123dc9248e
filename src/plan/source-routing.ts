import ipaddr from 'ipaddr.js';
import type { Cidr, Family } from '../model/address.ts';
import { addressAt, hostNetwork } from '../model/block.ts';
import { BLOCK_SLOT } from '../model/identifiers.ts';
import type { HostRule } from '../model/kinds/host-rule.ts';
import type { KernelObject } from '../model/kinds/registry.ts';
import { ANSWER_MARKS, HOST_LINK, HOST_NETNS } from '../model/linux-names.ts';
import { isKernelRule, type PolicyRule } from '../model/policy-rule.ts';
import { answerRules, dependsOnSource, isFollowed } from './answer-rules.ts';
import type { PlanContext } from './context.ts';
import { called, connection, rule as firewallRule, input, setMarkBits } from './firewall-words.ts';
import { hookedChain } from './hooked-chain.ts';
import { sysctlsOf } from './sysctls.ts';

/*
 * Hosts with several uplinks choose routes by source address: `ip rule add from ADDRESS lookup TABLE`. NAT hides that
 * address from the routing decision: a request is routed when its destination already is the lb, an answer when its source
 * still is the lb. So that both leave as if the called address had sent them,
 * - packets to the lb meet a rule just before those of others: `to LB lookup main`;
 * - answers get a mark by the called address, which conntrack knows, and each rule `from NETWORK` of another program has a
 *   twin of ours at its priority: `from LB fwmark MARK`, with the same other selectors and action (answer-rules.ts).
 * On a host that has only the kernel's rules nothing of this exists, and no packet pays for it.
 */

/** The objects of both families that follow from the rules of other programs. */
export function planSourceRouting(context: PlanContext): KernelObject[] {
  return parts(context).flatMap(({ family, lb, rules, marks, answers, isStrict }) => [
    deliveryRule(family, lb, rules),
    ...answers.rules,
    ...(marks.size === 0 ? [] : markingChain(family, marks, isStrict)),
    // The reverse path check of a request looks up the way of its answer, with the mark if this is set.
    ...(isStrict && marks.size > 0 ? sysctlsOf(HOST_NETNS, [['net.ipv4.conf.all.src_valid_mark', '1']]) : []),
  ]);
}

/**
 * Rules that apply to what the host sends from some address and not to answers from it, or the other way round: `meshctl
 * doctor` reports them.
 */
export function unfollowedRules(context: PlanContext): PolicyRule[] {
  const localSources = context.hostRouting?.localSources ?? [];
  return parts(context).flatMap(({ rules, marks, answers }) =>
    rules.filter((rule) => {
      if (!dependsOnSource(rule)) return false;
      if (!isFollowed(rule) || answers.unavoidable.includes(rule)) return true;
      return rule.source !== undefined && localSources.includes(rule.source) && !marks.has(rule.source);
    }),
  );
}

/** What both are made from, of each family with rules of other programs. */
function parts({ subnets, hostRouting }: PlanContext) {
  if (hostRouting === undefined) return [];
  return subnets.flatMap(({ family, block }) => {
    const rules = hostRouting.rules.filter((rule) => rule.family === family);
    if (rules.every(isKernelRule)) return [];
    const lb = hostNetwork(addressAt(block, BLOCK_SLOT.lb));
    const marks = assignMarks(rules, hostRouting.localSources);
    const answers = answerRules(rules, lb, [[undefined, 0], ...marks]);
    return [{ family, lb, rules, marks, answers, isStrict: hostRouting.strictReversePath && family === 'inet' }];
  });
}

const MAIN_TABLE = 254;

/**
 * Just before the first rule of another program, and no earlier: the kernel gives a new rule without a priority the one
 * before the second rule there is (fib_default_rule_pref), and the later of two such rules has to come first.
 */
function deliveryRule(family: Family, lb: Cidr, rules: readonly PolicyRule[]): HostRule {
  const first = Math.min(...rules.filter((rule) => !isKernelRule(rule)).map(({ priority }) => priority));
  return {
    kind: 'host-rule',
    netns: HOST_NETNS,
    family,
    priority: Math.max(0, first - 1),
    destination: lb,
    fwmark: 0,
    fwmask: 0,
    action: { lookup: MAIN_TABLE },
  };
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
