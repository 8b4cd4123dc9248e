import { printable } from '../../base/printable.ts';
import { formatActor } from '../../kernel/events/actors.ts';
import { type Actor, type Scope, scopeIncludes } from '../../kernel/kernel.ts';
import type { Op } from '../../model/kernel-state.ts';
import { covers } from './scopes.ts';

/** Events that were not handled yet; beyond, the oldest are dropped. */
const MAX_EVENTS = 64;

/** Which process changed what, as the kernel reported it, until the scope is observed. */
export interface ChangeAttribution {
  record(scope: Scope, by: readonly Actor[]): void;
  /** Processes that changed what these operations repair; `scanned` was observed. Rendered, each once. */
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
      return [...new Set(matching.flatMap(({ by }) => by.map((actor) => printable(formatActor(actor)))))];
    },
  };
}
