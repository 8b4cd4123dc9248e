/*
 * What the reconciler may do with the kernel, as a state machine without effects.
 *
 *   paused ─ start ─► active ─ passFailed ─► unknown
 *                       ▲                       │
 *                       └───── observedAll ─────┘          `stop` leads from every phase to stopped
 */

/**
 * `paused`: the kernel may be read but not changed, because there is no assignment yet; `active`: it may be changed;
 * `unknown`: a pass failed, so the kernel has to be observed completely before anything else is changed; `stopped`: no
 * work is begun any more.
 */
export type Phase = 'paused' | 'active' | 'unknown' | 'stopped';

export type PhaseEvent = 'start' | 'passFailed' | 'observedAll' | 'stop';

const TRANSITIONS: Readonly<Record<Phase, Partial<Record<PhaseEvent, Phase>>>> = {
  paused: { start: 'active', stop: 'stopped' },
  active: { passFailed: 'unknown', stop: 'stopped' },
  unknown: { observedAll: 'active', stop: 'stopped' },
  stopped: {},
};

/** The phase after an event; the same phase where the event has no effect. */
export function nextPhase(phase: Phase, event: PhaseEvent): Phase {
  return TRANSITIONS[phase][event] ?? phase;
}
