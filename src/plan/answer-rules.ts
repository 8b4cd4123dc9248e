import ipaddr from 'ipaddr.js';
import type { Cidr } from '../model/address.ts';
import { isWithin } from '../model/block.ts';
import type { HostRule } from '../model/kinds/host-rule.ts';
import { ANSWER_MARKS, HOST_NETNS } from '../model/linux-names.ts';
import type { PolicyRule } from '../model/policy-rule.ts';

/*
 * Rules that make answers of the lb meet the rules of other programs exactly when packets from the called address do.
 * Called addresses fall into classes: a connection has the mark of the longest network that contains its address, or none.
 * - A rule that applies to a class, but not to the lb, has a twin for answers with the mark of that class.
 * - Past a rule that applies to the lb, but not to the class, answers of that class make a detour.
 */

/** Called addresses in one network, and in none of a longer one; undefined: in none of them. */
export type AddressClass = readonly [network: Cidr | undefined, mark: number];

export interface AnswerRules {
  rules: HostRule[];
  /** Rules that some answers meet although the called address does not, because there is no place for a detour. */
  unavoidable: PolicyRule[];
}

/** `all`: rules of one family in the kernel's order. */
export function answerRules(all: readonly PolicyRule[], lb: Cidr, classes: readonly AddressClass[]): AnswerRules {
  const twins = all.filter(isFollowed).flatMap((rule) => twinsOf(rule, lb, classes));
  const detours = classes.map((one) => planDetours(all, lb, one));
  return {
    rules: [...twins, ...detours.flatMap(({ rules }) => rules)],
    unavoidable: [...new Set(detours.flatMap(({ unavoidable }) => unavoidable))],
  };
}

/** Whether a rule treats what the host sends by its source, or differently from what it forwards. */
export function dependsOnSource({ source, fromHost, forwarded }: PolicyRule): boolean {
  return !forwarded && (source !== undefined || fromHost === true);
}

/** Whether a rule depends on the source, and on nothing that an answer cannot have. */
export function isFollowed(rule: PolicyRule): boolean {
  const { destination, fwmark, fwmask, ipProtocol, sourcePorts, destinationPorts, inverted, fromHost } = rule;
  if (!dependsOnSource(rule) || rule.others || (fwmark & ANSWER_MARKS.mask) !== 0) return false;
  // The inverse of several conditions is a disjunction, which no rule can express.
  const more = [destination, ipProtocol, sourcePorts, destinationPorts, fromHost].some((one) => one !== undefined);
  return !inverted || (!more && fwmask === 0);
}

function twinsOf(rule: PolicyRule, lb: Cidr, classes: readonly AddressClass[]): HostRule[] {
  // Without a source all called addresses are alike.
  if (rule.source === undefined) return [twin(rule, lb)];
  return classes
    .filter(([network]) => selects(rule, network) && !meets(rule, lb))
    .map(([, mark]) => twin(rule, lb, mark));
}

/** Whether answers meet a rule as it is. */
function meets(rule: PolicyRule, lb: Cidr): boolean {
  return !rule.fromHost && selects(rule, lb);
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
 * The ways past rules that match answers of a class, because the lb is in their network, but not the called address: from
 * the priority just before a run of them to what follows it.
 */
function planDetours(all: readonly PolicyRule[], lb: Cidr, [network, mark]: AddressClass): AnswerRules {
  const isWrong = (rule: PolicyRule) =>
    rule.source !== undefined && isFollowed(rule) && meets(rule, lb) && !selects(rule, network);
  const wrong = new Set(all.filter(isWrong).map(({ priority }) => priority));
  const found: AnswerRules = { rules: [], unavoidable: [] };
  // From the last: where a detour ends, the next one may begin.
  for (const last of [...wrong].reverse()) {
    if (wrong.has(last + 1)) continue;
    let first = last;
    while (wrong.has(first - 1)) first--;
    const run = all.filter(({ priority }) => priority >= first && priority <= last);
    const next = all.find(({ priority }) => priority > last);
    if (next === undefined || !isAvoidable(run, all, isWrong)) {
      found.unavoidable.push(...run.filter(isWrong));
      continue;
    }
    const follower = found.rules.find(({ priority }) => priority === next.priority - 1);
    const goto = follower?.priority ?? next.priority;
    found.rules.push({
      kind: 'host-rule',
      netns: HOST_NETNS,
      family: next.family,
      priority: first - 1,
      source: lb,
      fwmark: mark,
      fwmask: ANSWER_MARKS.mask,
      action: { goto },
    });
  }
  return found;
}

/** Whether a run has no rule that answers may need, the place before it is free, and no other rule leads into it. */
function isAvoidable(
  run: readonly PolicyRule[],
  all: readonly PolicyRule[],
  isWrong: (rule: PolicyRule) => boolean,
): boolean {
  const first = run[0]!.priority;
  const last = run.at(-1)!.priority;
  const isTarget = ({ action }: PolicyRule) =>
    typeof action === 'object' && 'goto' in action && action.goto >= first && action.goto <= last;
  const isFree = first > 0 && all.every(({ priority }) => priority !== first - 1);
  return isFree && run.every((rule) => isWrong(rule) || rule.forwarded) && !all.some(isTarget);
}
