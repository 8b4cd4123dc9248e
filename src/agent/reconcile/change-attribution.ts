import { formatActor } from '../../kernel/events/actors.ts';
import { type Actor, type Scope, scopeIncludes } from '../../kernel/kernel.ts';
import type { Op } from '../../model/kernel-state.ts';
import { covers } from './scopes.ts';

/** Events nobody has looked after yet; beyond, the oldest are forgotten. */
const MAX_EVENTS = 64;

/** Who was said to have changed what, until somebody looks at it. */
export interface ChangeAttribution {
  record(scope: Scope, by: readonly Actor[]): void;
  /** Who changed what these steps put right; `scope` has been looked at then. In words, each once. */
  attribute(scope: Scope, ops: readonly Op[]): string[];
}

export function createChangeAttribution(): ChangeAttribution {
  let events: { scope: Scope; by: readonly Actor[] }[] = [];
  return {
    record(scope, by) {
      if (by.length > 0) events = [...events, { scope, by }].slice(-MAX_EVENTS);
    },
    attribute(scanned, ops) {
      const matching = events.filter(({ scope }) => ops.some(({ object }) => scopeIncludes(scope, object)));
      events = events.filter((event) => !matching.includes(event) && !covers(scanned, event.scope));
      return [...new Set(matching.flatMap(({ by }) => by.map(formatActor)))];
    },
  };
}
