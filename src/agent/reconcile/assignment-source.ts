/*
 * Where the assignment that this node applies comes from, as a state machine without effects.
 *
 *   none ─ loaded ─► saved ─ unreachable for 5 s ─► disk
 *     └──────────────── snapshot ───────────────────► manager   (from every state)
 *
 * INVARIANT: before `disk` or `manager` nothing in the kernel is changed.
 */

/**
 * `none`: no assignment is known; `saved`: the last one was read from disk and is not applied yet; `disk`: no manager is
 * reachable and the saved one is applied; `manager`: a manager has sent one, which is applied.
 */
type AssignmentSource = 'none' | 'saved' | 'disk' | 'manager';

export interface SourceState {
  source: AssignmentSource;
  /** Of the assignment; 0 while there is none. */
  revision: number;
}

export type SourceEvent =
  | { kind: 'loaded'; revision: number }
  /** `waited`: ms since the start of the agent. */
  | { kind: 'unreachable'; waited: number }
  | { kind: 'snapshot'; revision: number }
  | { kind: 'delta'; revision: number };

export type SourceEffect =
  /** Begin to change the kernel. */
  | { kind: 'startReconciling' }
  | { kind: 'logSavedAssignment'; revision: number }
  /** The manager's revision is older than ours: its store was rolled back. */
  | { kind: 'logRollback'; revision: number; managerRevision: number };

/** How long to wait for a manager before the saved assignment is applied, ms. */
const MANAGER_TIMEOUT = 5_000;

export const INITIAL_SOURCE: SourceState = { source: 'none', revision: 0 };

export function nextSource(
  state: SourceState,
  event: SourceEvent,
): { state: SourceState; effects: readonly SourceEffect[] } {
  const { source, revision } = state;
  switch (event.kind) {
    case 'loaded':
      return { state: { source: 'saved', revision: event.revision }, effects: [] };
    case 'unreachable':
      if (source !== 'saved' || event.waited < MANAGER_TIMEOUT) return { state, effects: [] };
      return {
        state: { source: 'disk', revision },
        effects: [{ kind: 'logSavedAssignment', revision }, { kind: 'startReconciling' }],
      };
    case 'snapshot': {
      const rolledBack = source === 'manager' && event.revision < revision;
      const managerRevision = event.revision;
      return {
        state: { source: 'manager', revision: managerRevision },
        effects: [
          ...(rolledBack ? [{ kind: 'logRollback', revision, managerRevision } as const] : []),
          { kind: 'startReconciling' },
        ],
      };
    }
    case 'delta':
      return { state: { ...state, revision: event.revision }, effects: [] };
  }
}
