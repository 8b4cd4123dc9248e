import { backoff } from '../../base/backoff.ts';

/** Repairs of one object within this many milliseconds … */
const WINDOW = 10_000;
/** … above this number mean that another process keeps changing it. */
const MAX_REPAIRS = 5;
const PAUSE = { base: 2_000, limit: 60_000 };
/** A history without new entries for so long is dropped. */
const EXPIRY = 5 * 60_000;

interface RepairHistory {
  at: number[];
  /** Pauses so far. */
  pauses: number;
  /** Monotonic ms. */
  pausedUntil: number;
}

/** Counts how often the same object is repaired, and decides when to pause its repairs. */
export interface RepairLimiter {
  /** For how many ms repairs of the object are paused; 0 means repair it now, which is then counted. */
  recordRepair(key: string, now: number): number;
  /** Objects that another process keeps changing. */
  conflicts(now: number): string[];
}

export function createRepairLimiter(): RepairLimiter {
  const histories = new Map<string, RepairHistory>();
  return {
    recordRepair(key, now) {
      const history = histories.get(key) ?? { at: [], pauses: 0, pausedUntil: 0 };
      if (now < history.pausedUntil) return history.pausedUntil - now;
      history.at = [...history.at.filter((time) => now - time < WINDOW), now];
      histories.set(key, history);
      if (history.at.length <= MAX_REPAIRS) return 0;
      const pause = backoff(history.pauses++, PAUSE.base, PAUSE.limit);
      history.pausedUntil = now + pause;
      history.at = history.at.slice(-MAX_REPAIRS);
      return pause;
    },
    conflicts(now) {
      for (const [key, { at, pausedUntil }] of histories) {
        if (now - Math.max(at.at(-1) ?? 0, pausedUntil) > EXPIRY) histories.delete(key);
      }
      return [...histories]
        .filter(([, { pauses, pausedUntil }]) => pauses > 0 && now < pausedUntil + WINDOW)
        .map(([key]) => key);
    },
  };
}
