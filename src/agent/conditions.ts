import type { Condition, ConditionCode } from '../model/condition.ts';
import { sameValue } from '../model/equality.ts';

/** The current conditions of this node; each code is raised once, and can be cleared. */
export interface Conditions {
  /** Replaces a condition of the same code. */
  raise(condition: Condition): void;
  clear(...codes: ConditionCode[]): void;
  get(code: ConditionCode): Condition | undefined;
  list(): Condition[];
}

export function createConditions(onChange: () => void): Conditions {
  const raised = new Map<string, Condition>();
  return {
    raise(condition) {
      if (sameValue(raised.get(condition.code), condition)) return;
      raised.set(condition.code, condition);
      onChange();
    },
    clear(...codes) {
      if (codes.filter((code) => raised.delete(code)).length > 0) onChange();
    },
    get: (code) => raised.get(code),
    list: () => [...raised.values()],
  };
}
