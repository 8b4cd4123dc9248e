import { type Finding, finding } from '../../model/doctor.ts';
import { type HostRouting, ruleWords } from '../../model/policy-rule.ts';
import { unfollowedRules } from '../../plan/source-routing.ts';

/** Whether answers of published ports take the routes of the called address; nothing while the routing is unknown. */
export function checkRouting(hostRouting: HostRouting | undefined): Finding[] {
  if (hostRouting === undefined) return [];
  const rules = unfollowedRules(hostRouting);
  if (rules.length === 0) return [finding('ok', 'RoutingRulesFollowed', {})];
  return rules.map((rule) => finding('warning', 'RoutingRuleNotFollowed', { rule: ruleWords(rule) }));
}
