import type { Node } from '../model/cluster.ts';
import { conditionEffect } from '../model/condition.ts';

/** Whether other nodes exchange packets of the overlay with this one. */
export function isReachable({ impairments = [] }: Pick<Node, 'impairments'>): boolean {
  return !impairments.some((code) => conditionEffect(code) === 'unreachable');
}

/** Whether a condition keeps new tasks away from the node. */
export function isImpaired({ impairments = [] }: Pick<Node, 'impairments'>): boolean {
  return impairments.some(keepsTasksAway);
}

/** Whether the node gets new tasks only if no other is suitable. */
export function isAvoided({ impairments = [] }: Pick<Node, 'impairments'>): boolean {
  return impairments.some((code) => conditionEffect(code) === 'avoided');
}

/** Whether a condition of this code keeps new tasks away. */
export function keepsTasksAway(code: string): boolean {
  const effect = conditionEffect(code);
  return effect === 'noNewTasks' || effect === 'unreachable';
}
