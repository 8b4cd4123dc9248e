import { actorText } from '../kernel/actors.ts';
import { type Actor, isIn, type Scope } from '../kernel/kernel.ts';
import type { Op } from '../model/kernel-state.ts';
import { covers } from './scopes.ts';

/** Events nobody has looked after yet; beyond, the oldest are forgotten. */
const LIMIT = 64;

/** Who was said to have changed what, until somebody looks at it. */
export interface Blame {
  heard(scope: Scope, by: readonly Actor[]): void;
  /** Who changed what these steps put right; `scope` has been looked at then. In words, each once. */
  take(scope: Scope, ops: readonly Op[]): string[];
}

export function createBlame(): Blame {
  let events: { scope: Scope; by: readonly Actor[] }[] = [];
  return {
    heard(scope, by) {
      if (by.length > 0) events = [...events, { scope, by }].slice(-LIMIT);
    },
    take(looked, ops) {
      const about = events.filter(({ scope }) => ops.some(({ object }) => isIn(scope, object)));
      events = events.filter((event) => !about.includes(event) && !covers(looked, event.scope));
      return [...new Set(about.flatMap(({ by }) => by.map(actorText)))];
    },
  };
}
