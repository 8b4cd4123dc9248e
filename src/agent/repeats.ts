import { backoff } from '../base/backoff.ts';

/** Repairs of one object within this many milliseconds … */
const WINDOW = 10_000;
/** … above this number mean that somebody else keeps changing it. */
const LIMIT = 5;
const PAUSE = { base: 2_000, limit: 60_000 };
/** A history nobody added to for so long is forgotten. */
const FORGET = 5 * 60_000;

interface History {
  at: number[];
  /** Pauses so far. */
  fights: number;
  /** Monotonic ms. */
  pausedUntil: number;
}

/** Counts how often the same object had to be repaired, and says when to leave it alone for a while. */
export interface Repeats {
  /** How many ms to leave the object alone; 0 means repair it now, which is then counted. */
  repair(key: string, now: number): number;
  /** Objects somebody else keeps changing. */
  fights(now: number): string[];
}

export function createRepeats(): Repeats {
  const histories = new Map<string, History>();
  return {
    repair(key, now) {
      const history = histories.get(key) ?? { at: [], fights: 0, pausedUntil: 0 };
      if (now < history.pausedUntil) return history.pausedUntil - now;
      history.at = [...history.at.filter((time) => now - time < WINDOW), now];
      histories.set(key, history);
      if (history.at.length <= LIMIT) return 0;
      const pause = backoff(history.fights++, PAUSE.base, PAUSE.limit);
      history.pausedUntil = now + pause;
      history.at = history.at.slice(-LIMIT);
      return pause;
    },
    fights(now) {
      for (const [key, { at, pausedUntil }] of histories) {
        if (now - Math.max(at.at(-1) ?? 0, pausedUntil) > FORGET) histories.delete(key);
      }
      return [...histories]
        .filter(([, { fights, pausedUntil }]) => fights > 0 && now < pausedUntil + WINDOW)
        .map(([key]) => key);
    },
  };
}
