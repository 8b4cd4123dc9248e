import type { Assignment } from '../../model/assignment.ts';
import { type Finding, finding } from '../../model/doctor.ts';
import { ruleWords } from '../../model/policy-rule.ts';
import type { NodeCapabilities } from '../../plan/context.ts';
import { unfollowedHostRules } from '../../plan/plan.ts';

/** Whether answers of published ports follow the routing rules of the host; nothing before both are known. */
export function checkRouting(
  assignment: Pick<Assignment, 'self' | 'networks'> | undefined,
  capabilities: NodeCapabilities,
): Finding[] {
  const rules = assignment && unfollowedHostRules(assignment, capabilities);
  if (rules === undefined) return [];
  if (rules.length === 0) return [finding('ok', 'RoutingRulesFollowed', {})];
  return rules.map((rule) => finding('warning', 'RoutingRuleNotFollowed', { rule: ruleWords(rule) }));
}
