import { backoff } from '../../base/backoff.ts';

/*
 * The life of the session with a manager, as a state machine without effects: session.ts carries the effects out.
 *
 *   connecting ─ welcomed ─► established ─ ended ─► backoff ─ retry ─► connecting (the next address)
 *        └──────── ended ───────────────────────────►┘         stop ─► stopped (from every state)
 */

type SessionPhase = 'idle' | 'connecting' | 'established' | 'backoff' | 'stopped';

export interface SessionState {
  phase: SessionPhase;
  /** Managers, tried in turn. */
  addresses: readonly string[];
  /** Index of the address in use or tried next: the same after a lost session, another after a failed attempt. */
  index: number;
  /** Attempts since the last welcome; decides the backoff. */
  attempt: number;
  /** Why the last attempt failed. */
  reason: string | undefined;
}

export type SessionEvent =
  | { kind: 'start' }
  | { kind: 'welcomed' }
  /** `jitter` 0 up to 1. */
  | { kind: 'ended'; reason: string; jitter: number }
  | { kind: 'retry' }
  | { kind: 'stop' };

export type SessionEffect =
  | { kind: 'connect'; address: string }
  /** `delay` in ms. */
  | { kind: 'retryAfter'; delay: number }
  | { kind: 'logFailure'; address: string; attempt: number; reason: string; repeated: boolean }
  /** Every manager was tried without success. */
  | { kind: 'unreachable'; reason: string }
  | { kind: 'disconnect' };

/** Between attempts, ms; the real delay is half of it to all of it, so that nodes do not reconnect in step. */
const RETRY_DELAY = { base: 100, limit: 5_000 };

export function initialSession(addresses: readonly string[]): SessionState {
  return { phase: 'idle', addresses, index: 0, attempt: 0, reason: undefined };
}

export function currentAddress({ addresses, index }: SessionState): string {
  return addresses[index]!;
}

export function nextSession(
  state: SessionState,
  event: SessionEvent,
): { state: SessionState; effects: readonly SessionEffect[] } {
  if (state.phase === 'stopped') return { state, effects: [] };
  switch (event.kind) {
    case 'start':
    case 'retry':
      return {
        state: { ...state, phase: 'connecting' },
        effects: [{ kind: 'connect', address: currentAddress(state) }],
      };
    case 'welcomed':
      return { state: { ...state, phase: 'established', attempt: 0, reason: undefined }, effects: [] };
    case 'stop':
      return { state: { ...state, phase: 'stopped' }, effects: [{ kind: 'disconnect' }] };
    case 'ended':
      return onEnded(state, event.reason, event.jitter);
  }
}

function onEnded(state: SessionState, reason: string, jitter: number): ReturnType<typeof nextSession> {
  const address = currentAddress(state);
  const attempt = state.attempt + 1;
  const index = state.phase === 'established' ? state.index : (state.index + 1) % state.addresses.length;
  const rounds = Math.floor((attempt - 1) / state.addresses.length);
  const delay = backoff(rounds, RETRY_DELAY.base, RETRY_DELAY.limit) * (0.5 + jitter / 2);
  return {
    state: { ...state, phase: 'backoff', index, attempt, reason },
    effects: [
      { kind: 'logFailure', address, attempt, reason, repeated: reason === state.reason },
      ...(attempt >= state.addresses.length ? [{ kind: 'unreachable', reason: `${address}: ${reason}` } as const] : []),
      { kind: 'retryAfter', delay },
    ],
  };
}
